"""Limits per person: one table, each limit with the environment variable that changes it.

The page and the shell check the same table when something is created. On a Space all limits apply; elsewhere most
are off.
"""

import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core import settings
from core.errors import UserError
from core.workspace import Owner

MB = 10**6
OFF = 0


@dataclass(frozen=True)
class Limit:
    """One limit: its default on a Space and elsewhere (0: no limit), and what it counts."""

    name: str
    variable: str
    space: int
    home: int
    unit: str


TABLE = (
    Limit("disk", "TUNESCOPE_LIMIT_DISK_MB", 5_000, OFF, "MB of datasets, runs and prompt sets per person"),
    Limit("rows", "TUNESCOPE_LIMIT_ROWS", 200_000, 1_000_000, "rows per dataset"),
    Limit("runs", "TUNESCOPE_LIMIT_RUNS", 2, OFF, "queued and running runs per person"),
    Limit("places", "TUNESCOPE_LIMIT_PLACES", 2, 12, "queued and running comparisons per visitor"),
    Limit("queue", "TUNESCOPE_LIMIT_QUEUE", 32, 32, "queued and running comparisons of all visitors"),
    Limit("requests", "TUNESCOPE_LIMIT_REQUESTS", 600, OFF, "requests per minute per visitor"),
    Limit("upload", "TUNESCOPE_LIMIT_UPLOAD_MB", 512, 1_024, "MB per uploaded file"),
)
_BY_NAME = {limit.name: limit for limit in TABLE}


def bound(name: str) -> int | None:
    """Return the limit that applies: the variable's value, otherwise the default; None for no limit.

    Raises UserError for a variable that is not a whole number.
    """
    limit = _BY_NAME[name]
    text = os.environ.get(limit.variable, "").strip()
    if not text:
        return (limit.space if settings.on_space() else limit.home) or None
    if not (text.isascii() and text.isdigit()):
        raise UserError("limits.variable", name=limit.variable, value=text[:40], unit=limit.unit)
    return int(text) or None


def check_variables() -> None:
    """Raise UserError for a limit that is not a whole number; called when the app starts."""
    for limit in TABLE:
        bound(limit.name)


def disk_used(owner: Owner) -> int:
    """Return the bytes of the owner's datasets, runs and prompt sets, without those still being written (.*)."""
    things = [path for folder in (owner.datasets, owner.runs, owner.prompt_sets) for path in folder.glob("[!.]*")]
    return sum(_size(Path(parent, name)) for thing in things for parent, _, names in os.walk(thing) for name in names)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # the file was deleted in the meantime
        return 0


def check_disk(owner: Owner, coming: int = 0) -> None:
    """Raise UserError if the owner's data and `coming` more bytes exceed the disk limit per person."""
    most = bound("disk")
    if most is None:
        return
    used = disk_used(owner)
    if used + coming > most * MB or used >= most * MB:
        facts = {"used": _megabytes(used), "coming": _megabytes(coming)}
        raise UserError("limits.disk", most=most, variable="TUNESCOPE_LIMIT_DISK_MB", **facts)


def check_uploads(sent: int, coming: int) -> None:
    """Raise UserError if a person's uploaded files, kept for a day, exceed the disk limit per person."""
    most = bound("disk")
    if most is not None and sent + coming > most * MB:
        facts = {"used": _megabytes(sent), "coming": _megabytes(coming)}
        raise UserError("limits.uploads", most=most, variable="TUNESCOPE_LIMIT_DISK_MB", **facts)


def _megabytes(count: int) -> str:
    return f"{count / MB:.1f}"


def check_runs(active: list[str]) -> None:
    """Raise UserError if the active runs, by id, leave no room for one more."""
    most = bound("runs")
    if most is not None and len(active) >= most:
        named = ", ".join(active)
        raise UserError("limits.runs", most=most, used=len(active), runs=named, variable="TUNESCOPE_LIMIT_RUNS")


class Requests:
    """Count the requests of each visitor over the last minute. Thread-safe; keeps the newest visitors only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, visitors: int = 10_000) -> None:
        self._clock, self._visitors = clock, visitors
        self._lock = threading.Lock()
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def count(self, visitor: str) -> None:
        """Count one more request. Raises UserError, without counting it, if the limit per minute is reached."""
        most = bound("requests")
        if most is None:
            return
        now = self._clock()
        with self._lock:
            times = self._times.setdefault(visitor, deque())
            self._times.move_to_end(visitor)
            while len(self._times) > self._visitors:
                self._times.popitem(last=False)
            while times and times[0] <= now - 60:
                times.popleft()
            if len(times) >= most:
                seconds = int(times[0] + 60 - now) + 1
                raise UserError("limits.requests", most=most, seconds=seconds, variable="TUNESCOPE_LIMIT_REQUESTS")
            times.append(now)
