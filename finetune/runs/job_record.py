"""The record of a run's rented job: `job.json`, written atomically under its own lock."""

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
"""Our own stages: a job was requested from the Hub and its id is not known yet; the Hub no longer knows the job."""
_REMOVED = ".removed-jobs"
ACTIVE_STAGES = (ASKED, "SCHEDULING", "RUNNING")


class HasFolder(Protocol):
    """What is read from a run here: its folder, which holds the record, and its id."""

    folder: Path

    @property
    def id(self) -> str: ...


@dataclass(frozen=True)
class JobRecord:
    """The job that runs a run, and its state so far.

    `stage` is the Hub's (SCHEDULING, RUNNING, COMPLETED, CANCELED, ERROR, DELETED) or ASKED or VANISHED. `timeout` and
    `running_secs` are in seconds, `started` is a Unix time; `others` is the cost of the run's other jobs in dollars, by
    their ids. `attempt` counts the jobs of the run from 1. `inputs` and `results` are the private repositories that the
    job reads and writes, `commit` is the revision of the inputs, `source` the SHA-256 of the sources that it runs.
    `lines` counts the plain log lines that were copied, `events` is the number of the last event. `asked_to_stop` is
    the Unix time of the stop request.
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
        """The cost of each job of the run so far in dollars, by its id: the listed price for the seconds it ran."""
        mine = {self.id: round(self.running_secs / 3600 * self.usd_per_hour, 4)} if self.id else {}
        return {**self.others, **mine}

    @property
    def usd_so_far(self) -> float:
        """The cost of all jobs of the run so far, in dollars."""
        return round(sum(self.costs.values()), 4)

    @property
    def active(self) -> bool:
        """Whether the job may still be running, as far as last reported."""
        return self.stage in ACTIVE_STAGES

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "usd_so_far": self.usd_so_far}


def path_of(folder: Path) -> Path:
    return folder / "job.json"


def read_record(folder: Path) -> JobRecord | None:
    """Return the record in a run's folder; None where the run is not a job."""
    path = path_of(folder)
    if not path.is_file():
        return None
    known = {attribute.name for attribute in fields(JobRecord)}
    return JobRecord(**{name: value for name, value in read_json(path).items() if name in known})


def job_of(run: HasFolder) -> JobRecord | None:
    """Return the job that runs a run (the newest, where it was resumed); None for a local run."""
    return read_record(run.folder)


def save(run: HasFolder, record: JobRecord) -> JobRecord:
    """Write the record; call it with the lock held."""
    write_json(path_of(run.folder), record.to_json())
    return record


def update(run: HasFolder, **changes: Any) -> JobRecord:
    """Change the record on disk; call it with the lock held."""
    record = job_of(run)
    assert record is not None, "only a job's record is changed"
    changed = replace(record, **changes)
    return record if changed == record else save(run, changed)


@contextmanager
def locked(run: HasFolder) -> Iterator[None]:
    """Hold the lock under which job.json and the files copied from the job are written.

    It is not the run's own lock, which a local process holds while it runs the run.
    """
    with open(run.folder / "job.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remember_removed(run: HasFolder) -> None:
    """Record that this run was deleted: the Hub still lists its jobs, and would bring it back."""
    with open(run.folder.parent / _REMOVED, "a", encoding="utf-8") as names:
        names.write(run.id + "\n")


def removed(owner: "Owner") -> set[str]:
    """Return the ids of the deleted runs that had jobs."""
    try:
        return set((owner.runs / _REMOVED).read_text(encoding="utf-8").split())
    except FileNotFoundError:
        return set()
