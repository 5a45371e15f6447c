"""Where a checkpoint's own settings are read."""

import json

import pytest

from core.errors import UserError
from core.workspace import Owner
from inference.models.generation_config import generation_config


def test_the_settings_are_read_beside_the_model(tiny_model, tmp_path):
    owner, folder = Owner("local"), tmp_path / "model"
    folder.mkdir()
    for file in tiny_model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    written = {"do_sample": True, "top_p": 0.8, "top_k": 0}
    (folder / "generation_config.json").write_text(json.dumps(written))
    assert generation_config(str(folder), owner) == written
    (folder / "generation_config.json").write_text("[1]")
    with pytest.raises(UserError, match="not a JSON object"):
        generation_config(str(folder), owner)
    (folder / "generation_config.json").unlink()
    with pytest.raises(UserError, match="has no default settings"):
        generation_config(str(folder), owner)
