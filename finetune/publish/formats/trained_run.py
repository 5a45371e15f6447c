"""The folders that a kind reads: what a run was trained on and its result."""

import threading
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError
from core.references import Folder, Hub, StandIn, parse
from core.workspace import Owner
from finetune.publish.card.facts import base_of
from finetune.runs.run import Run
from inference.models.types import Report

ADAPTER_CONFIG = "adapter_config.json"
_TOKENIZER = ("tokenizer_config.json", "tokenizer.json")


@dataclass(frozen=True)
class TrainedFolders:
    """The folders of a run that is done. `base`: the base model (of a full run its own result), `adapter`: the adapter,
    if any, `tokenizer`: the tokenizer and chat template that the run was trained with."""

    base: Path
    adapter: Path | None
    tokenizer: Path


def trained(run: Run, owner: Owner, progress: Report | None, stop: threading.Event | None) -> TrainedFolders:
    """Return the folders of a run that is done; its base model is fetched where it is not here. Raises UserError."""
    done(run)
    if not (run.model / ADAPTER_CONFIG).is_file():
        return TrainedFolders(run.model, None, run.model)
    base = _base(run, owner, progress, stop)
    own = all((run.model / name).is_file() for name in _TOKENIZER)
    return TrainedFolders(base, run.model, run.model if own else base)


def done(run: Run) -> None:
    """Raise UserError unless the run has a result."""
    from core.words import say

    status = run.status().status
    if status != "done" or not run.model.is_dir():
        raise UserError("kinds.not_done", run=run.id, status=say(f"publish.status.{status}"))


def _base(run: Run, owner: Owner, progress: Report | None, stop: threading.Event | None) -> Path:
    from inference.models.locate import fetch

    base = base_of(run, owner)
    reference = parse(base.reference, owner)
    assert isinstance(reference, Hub | StandIn | Folder), "base_of takes nothing else"
    fetched = fetch(reference, owner.token, owner=owner, progress=progress, stop=stop)
    if base.fingerprint not in (None, fetched.fingerprint):
        raise UserError("publish.other_base", base=base.name)
    return fetched.folder


def adapter(run: Run) -> bool:
    """Return whether the run's result is an adapter."""
    return (run.model / ADAPTER_CONFIG).is_file()
