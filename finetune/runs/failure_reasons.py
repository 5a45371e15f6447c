"""Why a run failed, as one sentence with the remedy; an unknown error is reported as a bug, with details in the log."""

import shutil
from pathlib import Path

from core.errors import UserError
from core.files import disk_full
from finetune.config.run_config import RunConfig

NO_ROOM = 64 * 1024 * 1024
_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


def explain(error: BaseException, config: RunConfig, step: int, device: str, folder: Path, stage: int = 0) -> UserError:
    """Return the UserError for what ended a run at `step`, in its stage number `stage` (from 0)."""
    if isinstance(error, UserError):
        return error
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(words in text for words in _MEMORY):
        field = config.optim_path(stage, "batch_size")
        facts = {"batch": config.optim_of(config.stages[stage]).batch_size, "length": config.limits.max_length}
        return UserError("run.memory", step=step, device=device, field=field, **facts)
    free = shutil.disk_usage(folder).free
    if disk_full(error) or free < NO_ROOM:
        return UserError("run.disk", free=free // 2**20, folder=folder)
    return UserError("run.bug", kind=type(error).__name__, message=" ".join(str(error).split())[:200])
