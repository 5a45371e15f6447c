"""Runs on the tiny model for tests: a data file, a config, a run folder ready to be trained in this process."""

import json
from pathlib import Path

from core.files import write_json
from finetune.config.run_config import RunConfig, validate
from finetune.config.yaml_reader import nest
from finetune.plan.prepare import import_data
from finetune.runs.run import Run, create

SETTINGS = {
    "limits.max_length": 128,
    "limits.validation": 0.1,
    "optim.epochs": 2,
    "optim.batch_size": 4,
    "optim.learning_rate": 0.01,
    "compute.dtype": "float32",
    "watch.sample_tokens": 4,
}


def write_data(path: Path, rows: int = 24) -> Path:
    """A small Alpaca file, rows of different lengths."""
    answers = [f"the number is {row}" + ", and more" * (row % 5) for row in range(rows)]
    data = [{"instruction": f"say {row}", "input": "", "output": answer} for row, answer in enumerate(answers)]
    path.write_text(json.dumps(data))
    return path


def make_config(model: Path, data: Path, **changes: object) -> RunConfig:
    """A quick config; `changes` are paths with `__` for the dot, such as optim__epochs=1."""
    values = SETTINGS | {name.replace("__", "."): value for name, value in changes.items()}
    raw = nest(values) | {"model": str(model), "stages": [{"data": [{"path": str(data)}]}]}
    if raw.get("method", "lora") == "lora":
        raw["lora"] = {"rank": 4, "dropout": 0.1} | raw.get("lora", {})
    return validate(raw)


def make_run(owner, model: Path, data: Path, **changes: object) -> Run:
    """A run folder as the launcher leaves it to its process."""
    run = create(import_data(make_config(model, data, **changes), owner), owner)
    write_json(
        run.folder / "env.json",
        {"base": str(model), "asked": str(model), "revision": None, "fingerprint": "0" * 64, "stand_in": False},
    )
    run.log.write("queued", device="cpu")
    return run
