"""Every kind on its way through the shell: built, pushed to a private repository of its type, proved."""

import pytest

from finetune.data.importing import import_file
from finetune.data.store import example_file
from finetune.publish.shell import publish_command

REPO = "tester/tea"
FILES = {
    "merged": {"model.safetensors", "config.json", "tokenizer.json"},
    "gguf": {"Modelfile"},
    "presets": {"generation_config.json", "presets/beam-num_beams-3.json"},
    "space": {"app.py", "requirements.txt"},
}
MORE = {
    "presets": {"presets": ("nucleus top_p=0.9", "beam num_beams=3")},
    "space": {"model_repo": "tester/tea-adapter"},
}


@pytest.mark.parametrize("kind", FILES)
def test_what_is_made_of_a_run_is_pushed_and_proved(hub, finished, publisher, capsys, kind):
    assert publish_command(finished.id, REPO, False, False, publisher, what=kind, **MORE.get(kind, {})) == 0
    printed = capsys.readouterr()
    place = "spaces" if kind == "space" else "models"
    repo = hub.repos[place, REPO]
    assert repo.private and FILES[kind] <= set(repo.head.files) and REPO in printed.out and "Proved" in printed.err
    card = hub.content(REPO, "README.md").decode() if place == "models" else ""
    assert ("the model before rounding |" in card) == (kind == "gguf")
    assert ("base and adapter through PEFT" in card) == (kind == "merged")
    if kind == "gguf":
        assert {"tea-F16.gguf", "tea-Q8_0.gguf"} <= set(repo.head.files)
    assert not (finished.folder / "publish" / kind).exists()


def test_a_dataset_is_pushed_and_proved_with_its_licence(hub, publisher, capsys):
    dataset = import_file(example_file(), publisher)
    assert publish_command(dataset.id, REPO, False, False, publisher, what="dataset") == 2
    assert "licence" in capsys.readouterr().err and ("datasets", REPO) not in hub.repos
    assert publish_command(dataset.id, REPO, False, False, publisher, what="dataset", licence="cc-by-4.0") == 0
    assert {"README.md", "data/train.parquet"} <= set(hub.repos["datasets", REPO].head.files)
