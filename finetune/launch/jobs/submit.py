"""The local side of a job's start: progress steps, the lock, what is recorded and undone."""

import fcntl
import os
import threading
from contextlib import suppress

from core.errors import UserError
from core.words import say
from finetune.config.run_config import RunConfig
from finetune.plan.prepare import OnProgress
from finetune.runs.job_record import JobRecord, locked, save
from finetune.runs.run import Run


class StartSteps:
    """Reports the steps of a start, and ends it between two steps where a stop was requested."""

    def __init__(self, progress: OnProgress | None, stop: threading.Event | None) -> None:
        self.progress, self.stop, self.done = progress, stop, 0

    def next(self, key: str) -> None:
        from inference.models.types import Progress

        if self.stop is not None and self.stop.is_set():
            raise UserError("job.start_stopped")
        if self.progress is not None:
            self.progress(Progress(say(key), self.done, 3, "steps"))
        self.done += 1


class starting:
    """Holds the run's lock while its job is being started: nobody else starts one, and readers see it."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __enter__(self) -> None:
        self.lock = os.open(self.run.lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self.lock)
            raise UserError("run.alive", value=self.run.id) from None

    def __exit__(self, *error: object) -> None:
        os.close(self.lock)


def record_start(run: Run, config: RunConfig, record: JobRecord, before: JobRecord | None) -> None:
    """Record the job that is about to be requested; where that cannot be written completely, undo it."""
    try:
        if before is None:
            run.save(config)
        save(run, record)
        run.log.write("queued", device=record.flavour, attempt=record.attempt)
    except OSError:
        with suppress(OSError):
            if before is None:
                (run.folder / "job.json").unlink()
            else:
                save(run, before)
        raise


def undo_start(run: Run, before: JobRecord | None, error: str) -> None:
    """Undo a refused start: a new run is removed; a resumed one returns to the record of its last job."""
    with locked(run):
        if before is None:
            (run.folder / "job.json").unlink()
        else:
            save(run, before)
            run.log.write("failed", step=run.progress().step, error=error, reason="refused")
