"""Following runs: each event file is read once, from a byte cursor, and folded into the run's progress."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from core.workspace import Owner
from finetune.runs.events import RunProgress, fold
from finetune.runs.run import Run, list_runs
from ui.train import jobs

KEPT = 64


@dataclass
class Followed:
    """One run's event file as far as it was read."""

    cursor: int = 0
    progress: RunProgress = field(default_factory=RunProgress)
    lock: threading.Lock = field(default_factory=threading.Lock)


_followed: OrderedDict[Path, Followed] = OrderedDict()
_lock = threading.Lock()


def follow(run: Run) -> Followed:
    """Return what is known of a run, with the events written since the last call."""
    with _lock:
        known = _followed.setdefault(run.folder, Followed())
        _followed.move_to_end(run.folder)
        while len(_followed) > KEPT:
            _followed.popitem(last=False)
    with known.lock:
        events, known.cursor = run.events(known.cursor)
        fold(events, known.progress)
    return known


@dataclass(frozen=True)
class ActiveRun:
    """A queued or running run, for the line of active runs. `flavor` and `cost` are a rented machine's."""

    id: str
    queued: bool
    step: int
    steps: int | None
    flavor: str | None = None
    cost: str | None = None


def active_runs(owner: Owner) -> list[ActiveRun]:
    """Return the owner's running and queued runs and jobs, the oldest first. Jobs are followed."""
    found = []
    for run in reversed(list_runs(owner)):
        if run.alive():
            jobs.keep_up(run, owner)
            progress, rented = follow(run).progress, jobs.rented(run)
            job = rented["job"] if rented else None
            paid = (job.flavour, jobs.usd(job.usd_so_far)) if job else (None, None)
            found.append(ActiveRun(run.id, not progress.begun, progress.step, progress.steps, *paid))
    return found


def thinned(events: list, most: int = 1000) -> list:
    """Return at most about `most` of the events, evenly spread, the last one included."""
    if len(events) <= most:
        return events
    step = len(events) / most
    return [events[min(int(number * step), len(events) - 1)] for number in range(most - 1)] + [events[-1]]
