"""Whether a person may start one more run on this page. Concurrent starts are checked one after another."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from core import limits
from core.workspace import Owner
from finetune.runs.run import list_runs


def check_room(owner: Owner) -> None:
    """Raise UserError where the owner's disk is full or as many runs are active as one person may have."""
    limits.check_disk(owner)
    if limits.bound("runs") is not None:
        limits.check_runs([run.id for run in list_runs(owner) if run.status().status in ("queued", "running")])


@contextmanager
def room(owner: Owner) -> Iterator[None]:
    """Hold a lock while the block creates a run that counts as active. Raises UserError as `check_room` does."""
    owner.folder.mkdir(parents=True, exist_ok=True)
    with open(owner.folder / ".starts", "a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        check_room(owner)
        yield
