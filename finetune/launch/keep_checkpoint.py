"""Make the newest complete checkpoint of a run that failed or was stopped its result in `model/`."""

import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError
from core.files import full_disk_in_words, new_folder
from core.workspace import Owner
from finetune.plan.prepare import OnProgress, same_base
from finetune.runs.job_record import job_of
from finetune.runs.lock import take
from finetune.runs.run import Run

if TYPE_CHECKING:
    from inference.models.types import Fetched

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "config.json")
"""The files of a checkpoint that belong to a result; the others are the state that training resumes from."""


def keep(run: Run, owner: Owner, progress: OnProgress | None = None, stop: threading.Event | None = None) -> int:
    """Make the newest complete checkpoint of a run its result, and the run done. Returns the checkpoint's step.

    `model/` appears complete or not at all. Raises UserError where the run is running or done, has no checkpoint here,
    or its base model is not the one that it started with.
    """
    if run.alive():
        raise UserError("run.alive", value=run.id)
    lock = take(run)
    try:
        with full_disk_in_words(run.folder):
            checkpoint = _newest(run)
            base = same_base(run, owner, progress, stop)
            step = _step(checkpoint)
            shutil.rmtree(run.model, ignore_errors=True)
            _write(run, checkpoint, base)
            run.log.write("done", step=step, steps=run.progress().steps or step, kept=step)
            return step
    finally:
        os.close(lock)


def has_checkpoint(run: Run) -> bool:
    """Return whether there may be a checkpoint to keep: a complete one has this file. Cheap, for a page that polls."""
    return any(run.checkpoints.glob("checkpoint-*/trainer_state.json"))


def _newest(run: Run) -> Path:
    from finetune.training.checkpoints import whole_checkpoints

    if run.progress().ending == "done":
        raise UserError("run.result_there", value=run.id)
    found = whole_checkpoints(run.checkpoints)
    if not found:
        raise UserError("run.kept_elsewhere" if job_of(run) else "run.nothing_to_keep", value=run.id)
    return found[-1]


def _step(checkpoint: Path) -> int:
    from finetune.training.checkpoints import step_of

    return step_of(checkpoint)


def _write(run: Run, checkpoint: Path, base: "Fetched") -> None:
    """Write `model/` as the end of a training does."""
    from finetune.data.tokenizing.tokenize import ensure_template
    from finetune.training.result import write_beside
    from inference.models.locate import load_tokenizer

    tokenizer = load_tokenizer(base.folder)
    ensure_template(tokenizer)
    with new_folder(run.model) as folder:
        for path in [path for pattern in WEIGHTS for path in checkpoint.glob(pattern)]:
            shutil.copyfile(path, folder / path.name)
        write_beside(run, tokenizer, _generation(base.folder), folder)


def _generation(base: Path) -> object:
    """Return the generation config that a model of this base has once it is loaded."""
    from transformers import AutoConfig, GenerationConfig

    if (base / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(base, local_files_only=True)
    return GenerationConfig.from_model_config(AutoConfig.from_pretrained(base, local_files_only=True))
