"""The folder in which a run's worker and the processes it started exchange files; it lives as long as the worker.

The worker holds the lock of `alive`; a process that gets it knows that the worker is gone, however it ended, and ends
too. `stop` appears when a stop is requested; `failed-N.json` says why process N failed.
"""

import fcntl
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError
from core.files import read_json, write_file
from finetune.runs.run import Run

if TYPE_CHECKING:
    from typing import NoReturn

_NAME = ".meeting-"


class Rendezvous:
    """One such folder. The worker calls `open_in`, the other processes `end_with_worker`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def open_in(cls, run: Run) -> "Rendezvous":
        """Create a folder, its lock held by this process; those left by killed attempts are deleted."""
        for left in run.folder.glob(f"{_NAME}*"):
            shutil.rmtree(left, ignore_errors=True)
        rendezvous = cls(run.folder / f"{_NAME}{os.getpid()}-{time.time_ns()}")
        rendezvous.folder.mkdir()
        rendezvous._held = os.open(rendezvous.folder / "alive", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(rendezvous._held, fcntl.LOCK_EX)
        return rendezvous

    _held: int

    def close(self) -> None:
        """Delete the folder and release the lock: processes that still run end."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._held)

    def end_with_worker(self) -> None:
        """End this process and its launcher at once when the worker is gone, also where it was killed."""
        threading.Thread(target=self._watch_worker, name="worker-watch", daemon=True).start()

    def _watch_worker(self) -> "NoReturn":
        try:
            with open(self.folder / "alive", "rb") as alive:
                fcntl.flock(alive, fcntl.LOCK_SH)
        except FileNotFoundError:
            pass
        if os.getppid() > 1:
            os.kill(os.getppid(), signal.SIGKILL)
        os._exit(1)

    def request_stop(self) -> None:
        """Let every process stop at the next step."""
        (self.folder / "stop").touch()

    def stop_requested(self) -> bool:
        return (self.folder / "stop").exists()

    def fail(self, rank: int, reason: UserError | None) -> None:
        """Write why a process failed; without a reason it only lost another one."""
        failure = {"code": reason.code, "facts": reason.facts} if reason else {}
        content = json.dumps({"t": time.time(), **failure}, default=str, ensure_ascii=False)
        write_file(self.folder / f"failed-{rank}.json", content)

    def reason(self) -> UserError | None:
        """Return the first reason that any process gave."""
        given = [read_json(path) for path in self.folder.glob("failed-*.json")]
        given = sorted((failure for failure in given if "code" in failure), key=lambda failure: failure["t"])
        return UserError(given[0]["code"], **given[0]["facts"]) if given else None
