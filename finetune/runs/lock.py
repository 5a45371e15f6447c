"""The lock of a run, held by the process that runs it."""

import fcntl
import os

from core.errors import UserError
from finetune.runs.run import Run


def take(run: Run) -> int:
    """Take the run's lock and return its open descriptor. Raises UserError where another process holds it.

    A process that checks whether a run is alive shares the lock for a moment; this is waited out. The handle of an
    earlier process is deleted: its process id may belong to another process by now, which a stop must not reach.
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
