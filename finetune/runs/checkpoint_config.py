"""The config saved with each checkpoint, and the check that a resume uses the same one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import read_json, write_json
from core.words import say
from finetune.config.run_config import RunConfig, validate
from finetune.runs.run import Run

_FILE = "told.json"
MAY_CHANGE = ("compute.device", "compute.processes", "compute.sharding", "compute.recompute", "watch", "version")
"""Settings of the device and of logging, which do not change what is learned."""


def keep_config(config: RunConfig, checkpoint: Path) -> None:
    """Write the config into a checkpoint."""
    write_json(checkpoint / _FILE, config.model_dump(mode="json"))


def check_config_kept(run: Run) -> None:
    """Raise UserError where the newest checkpoint was made with other settings than the run's config has now."""
    kept = max(run.checkpoints.glob(f"checkpoint-*/{_FILE}"), key=_step, default=None)
    if kept is None:
        return
    changes = list(changed(validate(read_json(kept)), run.config()))
    if changes:
        facts = {"changes": "; ".join(changes), "free": ", ".join(MAY_CHANGE[:-1])}
        raise UserError("run.config_changed", value=run.id, step=_step(kept), **facts)


def changed(before: RunConfig, now: RunConfig) -> Iterator[str]:
    """Yield a sentence for each setting that changed and must not change, with both values."""
    old, new = (dict(_leaves(config.model_dump(mode="json"))) for config in (before, now))
    for path in sorted(old.keys() | new.keys()):
        free = any(path == setting or path.startswith(f"{setting}.") for setting in MAY_CHANGE)
        if old.get(path) != new.get(path) and not free:
            yield say("run.one_changed", field=path, before=_shown(old.get(path)), now=_shown(new.get(path)))


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        yield path, value
        return
    for key, part in inner:
        yield from _leaves(part, f"{path}.{key}" if path else str(key))


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:60]


def _step(kept: Path) -> int:
    return int(kept.parent.name.rpartition("-")[2])
