"""The checkpoints of a run: written under a temporary name by all processes, then they appear; the last two stay."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from finetune.masters import MasterAdamW

KEPT = 2
OPTIMIZER = "optimizer.pt"
SCHEDULER = "scheduler.pt"


def whole_checkpoints(folder: Path) -> list[Path]:
    """The finished checkpoints, the newest last."""
    found = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def processes_of(checkpoint: Path) -> int:
    """How many processes wrote a checkpoint: each keeps the state of its random numbers."""
    return len(list(checkpoint.glob("rng_state_*.pth"))) or 1


def let_appear(part: Path, checkpoints: Path) -> None:
    """Rename the checkpoint in `part` into its place, and throw away what is older than the last two."""
    for written in part.iterdir():
        shutil.rmtree(checkpoints / written.name, ignore_errors=True)
        os.rename(written, checkpoints / written.name)
    for old in whole_checkpoints(checkpoints)[:-KEPT]:
        shutil.rmtree(old)


def restore_masters(masters: MasterAdamW, checkpoint: Path) -> None:
    """Take over what was learned, and the optimizer's state, from one's own checkpoint."""
    masters.load_state_dict(read_state(checkpoint / OPTIMIZER))


def read_state(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)
