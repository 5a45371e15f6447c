"""The checkpoints of a run: written by all processes under a temporary name, then renamed; the last two are kept."""

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from core.files import read_json, write_json
from finetune.kernels.optimizer import MasterAdamW

KEPT = 2
OPTIMIZER = "optimizer.pt"
SCHEDULER = "scheduler.pt"
_MARK = "stage.json"


@dataclass(frozen=True)
class StageMark:
    """The stage that a checkpoint belongs to, whether the stage was over at that step, and the run's step with the
    stage's best validation loss, where that is the stage's result.

    `missed`: the evaluation due at this step has not been made, since a stop was requested.
    """

    stage: int
    over: bool
    best: int | None = None
    missed: bool = False

    def write(self, folder: Path) -> None:
        write_json(folder / _MARK, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "StageMark":
        """Return the mark of a checkpoint."""
        return cls(**read_json(folder / _MARK))


def step_of(checkpoint: Path) -> int:
    """Return the run's step that a checkpoint was made after."""
    return int(checkpoint.name.rpartition("-")[2])


def whole_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints, the newest last."""
    found = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return sorted(found, key=step_of)


def processes_of(checkpoint: Path) -> int:
    """Return how many processes wrote a checkpoint: each saves the state of its random numbers."""
    return len(list(checkpoint.glob("rng_state_*.pth"))) or 1


def let_appear(part: Path, checkpoints: Path, before: int = 0, keep: int | None = None) -> None:
    """Rename the checkpoint in `part` into its place, and delete those older than the last two.

    In `part` it is named by the step of its stage; `before` is the number of steps of the stages before. The checkpoint
    of step `keep` is not deleted.
    """
    for written in part.iterdir():
        target = checkpoints / f"checkpoint-{before + step_of(written)}"
        shutil.rmtree(target, ignore_errors=True)
        os.rename(written, target)
    for old in whole_checkpoints(checkpoints)[:-KEPT]:
        if step_of(old) != keep:
            shutil.rmtree(old)


def restore_masters(masters: MasterAdamW, checkpoint: Path) -> None:
    """Load the weights and the optimizer's state from a checkpoint."""
    masters.load_state_dict(read_state(checkpoint / OPTIMIZER))


def read_state(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)
