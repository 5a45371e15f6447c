"""Runs as the page follows them: each event file is read once, from a byte cursor, and folded into what is known."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from core.workspace import Owner
from finetune.events import Progress, fold
from finetune.run import Run, list_runs

KEPT = 64


@dataclass
class Followed:
    """One run's event file as far as it was read."""

    cursor: int = 0
    progress: Progress = field(default_factory=Progress)
    lock: threading.Lock = field(default_factory=threading.Lock)


_followed: OrderedDict[Path, Followed] = OrderedDict()
_lock = threading.Lock()


def follow(run: Run) -> Followed:
    """What is known of a run, with the events written since the last look."""
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
class AtWork:
    """A run that is queued or running, for the slim line."""

    id: str
    queued: bool
    step: int
    steps: int | None


def at_work(owner: Owner) -> list[AtWork]:
    """The owner's runs that hold their lock, the oldest first."""
    found = []
    for run in reversed(list_runs(owner)):
        if run.alive():
            progress = follow(run).progress
            found.append(AtWork(run.id, not progress.begun, progress.step, progress.steps))
    return found


def thinned(events: list, most: int = 1000) -> list:
    """At most about `most` of the events, evenly spread, the last one kept."""
    if len(events) <= most:
        return events
    step = len(events) / most
    return [events[min(int(number * step), len(events) - 1)] for number in range(most - 1)] + [events[-1]]
