"""The run folder: config, events, lock, log, environment, checkpoints, model. Status is computed, never stored."""

import fcntl
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import read_json, write_file
from core.references import Folder, parse
from core.references import Run as RunReference
from core.words import say
from core.workspace import RUN_ID, Owner, new_run_id, run_folder
from finetune.config.run_config import RunConfig, load_yaml, to_yaml
from finetune.runs.events import Event, EventLog, RunProgress, fold, read_events
from finetune.runs.job_record import job_of

LOG_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class Status:
    """The status of a run: queued, running, fetching, stopped, failed or done.

    `fetching` is a job that ended but whose result or last events are not copied yet. `error` is a sentence where it
    failed, or why it could not be fetched yet.
    """

    id: str
    status: str
    step: int
    steps: int | None
    loss: float | None
    eval_loss: float | None
    tokens_per_s: float | None
    error: str | None
    folder: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Run:
    """One run folder. A Run keeps nothing open; every method reads the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Run({self.id!r})"

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def lock_path(self) -> Path:
        return self.folder / "lock"

    @property
    def log_path(self) -> Path:
        return self.folder / "log.txt"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def datasets(self) -> Path:
        """The datasets folder of the run's owner."""
        return self.folder.parent.parent / "datasets"

    @property
    def log(self) -> EventLog:
        """The event file's writer, for the holder of the lock."""
        return EventLog(self.folder / "events.jsonl")

    def config(self) -> RunConfig:
        """Return the run's config."""
        return load_yaml((self.folder / "config.yaml").read_bytes(), self.folder)

    def save(self, config: RunConfig) -> None:
        """Write the config, which makes the folder a run."""
        write_file(self.folder / "config.yaml", to_yaml(config))

    def environment(self) -> dict[str, Any]:
        """Return `env.json`: base, asked, revision, fingerprint, versions, device, dtype; empty before the first
        start."""
        path = self.folder / "env.json"
        return read_json(path) if path.is_file() else {}

    def events(self, after: int = 0) -> tuple[list[Event], int]:
        """Return the events after a byte offset, and the offset for the next call."""
        return read_events(self.folder / "events.jsonl", after)

    def progress(self) -> RunProgress:
        """Return the run's state after all its events."""
        return fold(self.events()[0])

    def alive(self) -> bool:
        """Return whether the run is queued or running: its rented job, as far as last reported, or a local process."""
        record = job_of(self)
        return record.active if record else self.held()

    def held(self) -> bool:
        """Return whether a process on this machine holds the run's lock (the run's process, or the one that starts
        it)."""
        try:
            descriptor = os.open(self.lock_path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)

    def sweep(self) -> None:
        """Delete incomplete files and folders; call it with the lock held."""
        for left in [*self.folder.glob(".*.part"), *self.checkpoints.glob(".part")]:
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def wait(self) -> None:
        """Wait until no process holds the run's lock."""
        with open(self.lock_path, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)

    def state(self, alive: bool, progress: RunProgress) -> str:
        """Return the run's status as a word; `alive` must be read before `progress`."""
        if alive:
            return "running" if progress.begun else "queued"
        return progress.ending or ("fetching" if job_of(self) else "failed")

    def _error(self, word: str, progress: RunProgress) -> str | None:
        if word == "failed":
            return progress.error or say("run.ended_silently", log=self.log_tail(5) or say("run.log_empty"))
        record = job_of(self) if word == "fetching" else None
        return say("run.being_fetched", problem=record.problem or "").rstrip() if record else None

    def status(self) -> Status:
        """Return the current status, from the lock and the events. The lock is read first: the last event is written
        under it."""
        alive = self.alive()
        progress = self.progress()
        word = self.state(alive, progress)
        return Status(
            id=self.id,
            status=word,
            step=progress.step,
            steps=progress.steps,
            loss=progress.loss,
            eval_loss=progress.eval_loss,
            tokens_per_s=progress.tokens_per_s,
            error=self._error(word, progress),
            folder=str(self.folder),
        )

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines of the log, from its last 64 KB."""
        try:
            with open(self.log_path, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.replace("\r", "\n").rstrip().splitlines()[-lines:])


def create(config: RunConfig, owner: Owner) -> Run:
    """Create a run folder with the config. Starts nothing; the data must already be imported."""
    assert all(source.dataset for stage in config.stages for source in stage.data), "files are imported before"
    run = reserve(owner)
    run.save(config)
    return run


def reserve(owner: Owner) -> Run:
    """Create an empty run folder. It is not a run for other processes until its config is saved, so it can be locked
    before."""
    owner.runs.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            folder = owner.runs / new_run_id()
            folder.mkdir()
            return Run(folder)
        except FileExistsError:
            continue


def find(text: str, owner: Owner) -> Run:
    """Return the run that a person named by its id or, on their own machine, by its folder. Raises UserError."""
    text = text.strip()
    if "/" not in text and not RUN_ID.fullmatch(text) and text != ".":
        raise UserError("core.run_id", value=text[:80])
    local_path = owner.local and not RUN_ID.fullmatch(text)
    reference = parse(str(Path(text).expanduser().absolute()) if local_path else text, owner)
    if isinstance(reference, RunReference):
        return Run(run_folder(owner, reference.id))
    if isinstance(reference, Folder) and (reference.path / "config.yaml").is_file():
        return Run(reference.path)
    raise UserError("core.no_run", value=text[:80])


def list_runs(owner: Owner) -> list[Run]:
    """Return the owner's runs, the newest first."""
    folders = sorted(owner.runs.glob("r*/config.yaml"), reverse=True)
    return [Run(path.parent) for path in folders]
