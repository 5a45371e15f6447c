"""Long work behind a button: a thread does it, the page shows its progress, and a second button stops it."""

import threading
from collections.abc import Callable, Generator
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from core.errors import UserError
from ui.parts.views import render
from ui.web.handler import Caller, Superseded

EVERY = 0.25


@dataclass
class Job:
    """One piece of work: its progress, whether it shall stop, its result or error."""

    stop: threading.Event = field(default_factory=threading.Event)
    progress: Any = None
    result: Any = None
    error: BaseException | None = None
    _thread: threading.Thread | None = None

    def report(self, progress: Any) -> None:
        """Record the progress of the work; end the work here if it shall stop."""
        self.progress = progress
        if self.stop.is_set():
            raise UserError("page.stopped")

    def start(self, work: Callable[["Job"], Any]) -> "Job":
        """Do the work in a thread that speaks the caller's language."""
        context = copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._do, work), daemon=True)
        self._thread.start()
        return self

    def _do(self, work: Callable[["Job"], Any]) -> None:
        try:
            self.result = work(self)
        except BaseException as error:
            self.error = error

    def wait(self, seconds: float) -> bool:
        """Wait for at most so many seconds. Return whether the work is done."""
        assert self._thread is not None
        self._thread.join(seconds)
        return not self._thread.is_alive()


_jobs: dict[tuple[str, str, str], Job] = {}


def stop(caller: Caller, what: str) -> None:
    """Stop the work of this browser tab under the name `what`."""
    job = _jobs.get((caller.owner.key, caller.session, what))
    if job:
        job.stop.set()


def begin(caller: Caller, what: str) -> Job:
    """Make a job that `stop` reaches under the name `what`; stop the one before it under that name."""
    stop(caller, what)
    job = Job()
    _jobs[caller.owner.key, caller.session, what] = job
    return job


def newest(caller: Caller, what: str, job: Job) -> bool:
    """Return whether the browser tab has begun nothing newer under that name."""
    return _jobs.get((caller.owner.key, caller.session, what)) is job


def end(caller: Caller, what: str, job: Job) -> None:
    """Forget a job and see that it ends."""
    job.stop.set()
    if newest(caller, what, job):
        del _jobs[caller.owner.key, caller.session, what]


def run(
    caller: Caller, what: str, work: Callable[[Job], Any], busy: Callable[[str], Any], idle: Callable[[], Any]
) -> Generator[Any, None, Any]:
    """Do `work(job)`; yield `busy(html)` while it runs, and `idle()` when it fails, before the error is raised.

    Returns what the work returned. Closing the generator (the tab was closed) stops the work.
    """
    job = begin(caller, what)
    try:
        job.start(work)
        shown = object()
        while not job.wait(EVERY):
            if job.progress is not shown:
                shown = job.progress
                yield busy(render("progress", progress=shown))
        if not newest(caller, what, job):
            raise Superseded
        if job.error is not None:
            yield idle()
            raise job.error
        return job.result
    finally:
        end(caller, what, job)


@dataclass(frozen=True)
class Bytes:
    """The progress of reading a file."""

    text: str
    done: int
    total: int
    unit: str = "bytes"


def bytes_done(job: Job, text: str) -> Callable[[int, int], None]:
    """Return a callback for imports: bytes done, bytes in all."""
    return lambda done, total: job.report(Bytes(text, done, total))
