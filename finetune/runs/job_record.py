"""What a run knows of its rented job: `job.json`, written in one step under a lock of its own."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from core.files import read_json, write_json

if TYPE_CHECKING:
    from core.workspace import Owner

ASKED, VANISHED = "ASKED", "VANISHED"
"""Stages of our own: the Hub was asked for a job and its id is not known yet; the Hub knows no such job any more."""
_REMOVED = ".removed-jobs"
AT_WORK = (ASKED, "SCHEDULING", "RUNNING")


class HasFolder(Protocol):
    """What is read of a run here: its folder, in which the record lies, and its id."""

    folder: Path

    @property
    def id(self) -> str: ...


@dataclass(frozen=True)
class JobRecord:
    """The job that runs a run, and what came of it so far.

    `stage` is the Hub's (SCHEDULING, RUNNING, COMPLETED, CANCELED, ERROR, DELETED) or ASKED or VANISHED. `timeout` and
    `running_secs` are seconds, `started` unix seconds; `others` is what the run's other jobs cost in dollars, by their
    ids. `attempt` counts the jobs of the run from 1. `inputs` and `results` are the private repositories that the job
    reads and writes, `commit` the inputs' revision, `source` the SHA-256 of the sources it runs. `lines` counts the
    plain log lines that were copied, `events` is the number of the last event. `asked_to_stop` is when, in unix
    seconds.
    """

    id: str | None
    url: str | None
    namespace: str
    flavour: str
    usd_per_hour: float
    timeout: int
    attempt: int
    inputs: str
    results: str
    commit: str = ""
    source: str = ""
    stage: str = ASKED
    message: str | None = None
    asked: float = field(default_factory=time.time)
    started: float | None = None
    running_secs: int = 0
    others: dict[str, float] = field(default_factory=dict)
    lines: int = 0
    events: int = 0
    asked_to_stop: float | None = None
    problem: str | None = None

    @property
    def costs(self) -> dict[str, float]:
        """What each job of the run cost so far in dollars, by its id: the table's price for the seconds it ran."""
        mine = {self.id: round(self.running_secs / 3600 * self.usd_per_hour, 4)} if self.id else {}
        return {**self.others, **mine}

    @property
    def usd_so_far(self) -> float:
        """What all jobs of the run cost so far."""
        return round(sum(self.costs.values()), 4)

    @property
    def at_work(self) -> bool:
        """Whether the job may still do something, as far as was last heard."""
        return self.stage in AT_WORK

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "usd_so_far": self.usd_so_far}


def path_of(folder: Path) -> Path:
    return folder / "job.json"


def read_record(folder: Path) -> JobRecord | None:
    """The record in a run's folder; None where the run is no job."""
    path = path_of(folder)
    if not path.is_file():
        return None
    known = {one.name for one in fields(JobRecord)}
    return JobRecord(**{name: value for name, value in read_json(path).items() if name in known})


def job_of(run: HasFolder) -> JobRecord | None:
    """The job that runs a run (the newest, where it was resumed); None for a run of this machine."""
    return read_record(run.folder)


def save(run: HasFolder, record: JobRecord) -> JobRecord:
    """Write the record; call it with the lock held."""
    write_json(path_of(run.folder), record.to_json())
    return record


def update(run: HasFolder, **changes: Any) -> JobRecord:
    """Change the record as it stands on the disk; call it with the lock held."""
    record = job_of(run)
    assert record is not None, "only a job's record is changed"
    changed = replace(record, **changes)
    return record if changed == record else save(run, changed)


@contextmanager
def locked(run: HasFolder) -> Iterator[None]:
    """Hold the lock under which job.json and what is copied from the job are written.

    It is not the run's own lock: that one tells that a process of this machine is at work.
    """
    with open(run.folder / "job.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remember_removed(run: HasFolder) -> None:
    """Keep in mind that somebody deleted this run: the Hub still lists its jobs, and would bring it back."""
    with open(run.folder.parent / _REMOVED, "a", encoding="utf-8") as names:
        names.write(run.id + "\n")


def removed(owner: "Owner") -> set[str]:
    """The runs that were deleted here and had jobs."""
    try:
        return set((owner.runs / _REMOVED).read_text(encoding="utf-8").split())
    except FileNotFoundError:
        return set()
