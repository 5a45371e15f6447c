"""The lock of a run: who holds it is at work on it."""

import fcntl
import os

from core.errors import UserError
from finetune.runs.run import Run


def take(run: Run) -> int:
    """Take the run's lock and return its open descriptor. Raises UserError where somebody else has it.

    Who only looks whether a run is alive shares the lock for a moment; that is waited out. The handle of an earlier
    process goes: its number may be another's by now, and a stop must not reach that one.
    """
    descriptor = os.open(run.lock_path, os.O_RDWR | os.O_CREAT, 0o600)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if run.alive():
                os.close(descriptor)
                raise UserError("run.alive", value=run.id) from None
    (run.folder / "handle.json").unlink(missing_ok=True)
    return descriptor
