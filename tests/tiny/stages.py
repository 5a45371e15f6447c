"""Data of each kind and configs of several stages on the tiny model."""

import json
from pathlib import Path

from core.files import write_json
from finetune.config.run_config import RunConfig, validate
from finetune.config.yaml_reader import nest
from finetune.plan.prepare import import_data
from finetune.runs.run import Run, create
from tests.tiny.training import SETTINGS, write_data


def write_texts(path: Path, rows: int = 20) -> Path:
    """Plain text, documents of different lengths."""
    texts = [{"text": f"the sea is deep and row {row} is long" + " and wide" * (row % 6)} for row in range(rows)]
    path.write_text("\n".join(map(json.dumps, texts)))
    return path


def write_pairs(path: Path, rows: int = 18) -> Path:
    """Preferences: the polite answer over the rude one."""
    pairs = [
        {"prompt": f"say {row}", "chosen": f"gladly, the number is {row}" + " sir" * (row % 4), "rejected": f"no {row}"}
        for row in range(rows)
    ]
    path.write_text("\n".join(map(json.dumps, pairs)))
    return path


def staged(model: Path, folder: Path, objectives: tuple[str, ...], **changes: object) -> RunConfig:
    """A run of these stages, one after another, on data written into `folder`."""
    files = {
        "pretrain": write_texts(folder / "texts.jsonl"),
        "sft": write_data(folder / "chats.json"),
        "dpo": write_pairs(folder / "pairs.jsonl"),
    }
    values = SETTINGS | {"optim.epochs": 1} | {name.replace("__", "."): value for name, value in changes.items()}
    stages = [{"objective": name, "data": [{"path": str(files[name])}]} for name in objectives]
    return validate(nest(values) | {"model": str(model), "stages": stages})


def run_of(owner, config: RunConfig, model: Path) -> Run:
    """The run folder as the launcher leaves it to its process."""
    run = create(import_data(config, owner), owner)
    write_json(
        run.folder / "env.json",
        {"base": str(model), "asked": str(model), "revision": None, "fingerprint": "0" * 64, "stand_in": False},
    )
    run.log.write("queued", device="cpu")
    return run
