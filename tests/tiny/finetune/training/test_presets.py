"""Every preset trains: a few steps of each of its stages on the tiny model, and its result loads."""

import math

import pytest
import torch

from finetune.config.presets import PRESETS
from finetune.config.run_config import validate
from finetune.runs.log import Journal
from finetune.training.attempt import train
from inference.models.locate import load_tokenizer
from tests.tiny.stages import run_of, write_pairs, write_texts
from tests.tiny.training import write_data

pytestmark = pytest.mark.matrix

WRITERS = {"sft": write_data, "pretrain": write_texts, "dpo": write_pairs}


def _small(preset, model, folder):
    """The preset on small data, as it is but for what a tiny model has no room for."""
    data = [[{"path": str(WRITERS[objective](folder / f"{objective}.json"))}] for objective in preset.objectives]
    raw = preset.config(data).model_dump(mode="json", exclude_none=True, exclude_unset=True)
    rank = {"lora": {**raw["lora"], "rank": 4}} if "lora" in raw else {}
    freeze = {"freeze": {**raw["freeze"], "layers": 1}} if "freeze" in raw else {}
    more = {
        "limits": {"max_length": 128},
        "watch": {"sample_tokens": 4},
        "optim": {**raw.get("optim", {}), "max_steps": 3},
    }
    return validate({**raw, **rank, **freeze, **more, "model": str(model)})


@pytest.mark.parametrize("name", PRESETS)
def test_it_trains_each_of_its_stages(owner, tiny_model, tmp_path, name):
    preset = PRESETS[name]
    config = _small(preset, tiny_model, tmp_path)
    run = run_of(owner, config, tiny_model)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert train(run, tiny_model, Journal(run), lambda: False) is False
    finally:
        torch.set_num_threads(before)
    progress = run.progress()
    stages = progress.started["stages"]
    assert progress.ending == "done" and [stage["objective"] for stage in stages] == preset.objectives
    assert {event["stage"] for event in progress.train.values()} == set(range(len(stages)))
    assert all(math.isfinite(event["loss"]) for event in progress.train.values())
    assert list(run.model.glob("*.safetensors")) and load_tokenizer(run.model)
