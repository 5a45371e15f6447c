"""Long work that belongs to its owner, not to a browser tab: one piece at a time; any tab of theirs follows it."""

import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.errors import UserError
from ui.parts.job import Job
from ui.parts.views import render
from ui.web.handler import Caller

log = logging.getLogger("tunescope")


@dataclass
class OwnerJob:
    """An owner's newest piece of work: its id, and the job that does it."""

    id: str
    job: Job

    @property
    def alive(self) -> bool:
        return not self.job.wait(0)

    @property
    def stamp(self) -> str:
        """A text that changes when there is something new to show."""
        return f"{self.id} {self.alive} {self.job.progress} {self.job.stop.is_set()}"


class Background:
    """The work of one kind, by owner. `busy` is the key of the sentence for an owner whose earlier piece is running."""

    def __init__(self, busy: str) -> None:
        self._busy = busy
        self._jobs: dict[str, OwnerJob] = {}
        self._lock = threading.Lock()

    def begin(self, caller: Caller, identity: str, do: Callable[[Job], Any]) -> None:
        """Begin `do(job)` for the caller's owner. Raises UserError while an earlier piece of theirs is running."""
        with self._lock:
            known = self.of(caller)
            if known is not None and known.alive:
                raise UserError(self._busy)
            self._jobs[caller.owner.key] = OwnerJob(identity, Job().start(do))

    def of(self, caller: Caller) -> OwnerJob | None:
        """Return the newest piece of work of the caller's owner, running or ended."""
        return self._jobs.get(caller.owner.key)

    def stop(self, caller: Caller) -> bool:
        """Ask the owner's work to end. Returns whether there was any."""
        known = self.of(caller)
        if known is None or not known.alive:
            return False
        known.job.stop.set()
        return True


def failed(known: OwnerJob) -> str:
    """Return a sentence for a person's mistake; for a bug an id, under which it is logged once."""
    error = known.job.error
    if not isinstance(error, UserError):
        broken = secrets.token_hex(4)
        log.error("broken %s", broken, exc_info=error)
        error = known.job.error = UserError("page.broken", id=broken)
    return render("note", kind="ts-bad", title="", text=str(error))
