"""Runs on rented machines: the same RunConfig as a Hugging Face Job.

JobsLauncher("a10g-small", "2h").start(config, owner) -> run id; sync(run, owner) brings it up to date from anywhere.
"""

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError
from core.files import full_disk_in_words, write_json
from core.workspace import Owner
from finetune.config.run_config import RunConfig
from finetune.launch import Launcher
from finetune.launch.follow.api import UNCERTAIN, api, in_words, whoami
from finetune.launch.follow.follow import follow
from finetune.launch.follow.sync import cancel_before_start, facts_of, request_stop, sync, sync_quietly
from finetune.launch.jobs.attach import attach
from finetune.launch.jobs.bundle import push_inputs
from finetune.launch.jobs.checks import INPUTS, Check, PinnedBase, look, preflight, seconds_of, write_access
from finetune.launch.jobs.estimate import JobEstimate, estimate
from finetune.launch.jobs.flavors import flavor_named, known_flavors
from finetune.launch.jobs.newer import catch_up
from finetune.launch.jobs.spec import specification, with_processes
from finetune.launch.jobs.submit import StartSteps, record_start, starting, undo_start
from finetune.plan import prepare
from finetune.plan.machines import Flavor
from finetune.plan.prepare import CheckResult, OnProgress, check_imported, import_data
from finetune.runs.checkpoint_config import check_config_kept
from finetune.runs.job_record import JobRecord, job_of, locked, update
from finetune.runs.quota import check_room, room
from finetune.runs.run import Run, reserve

if TYPE_CHECKING:
    from finetune.data.findings import DataFinding

__all__ = [
    "Check",
    "Flavor",
    "JobEstimate",
    "JobRecord",
    "JobsLauncher",
    "attach",
    "estimate",
    "follow",
    "job_of",
    "known_flavors",
    "launcher_of",
    "preflight",
    "sync",
    "sync_quietly",
]

OnChecked = Callable[[list[Check], Flavor, JobEstimate], None]
POLL_SECONDS = 15.0
"""How often a job checks whether it was asked to stop."""


class JobsLauncher:
    """Starts, resumes and stops runs as Hugging Face Jobs. `owner` is the default for calls that do not name one;
    `agreed` is the price per hour that a person confirmed: at any other price nothing starts. `on_checked` is called
    with the results of the checks before anything is sent."""

    def __init__(
        self,
        flavor: str,
        timeout: str | int,
        owner: Owner | None = None,
        agreed: float | None = None,
        on_checked: OnChecked | None = None,
    ) -> None:
        self.flavor, self.timeout, self.owner, self.agreed, self.on_checked = (
            flavor,
            timeout,
            owner,
            agreed,
            on_checked,
        )

    def check(
        self,
        config: RunConfig,
        owner: Owner,
        *,
        progress: OnProgress | None = None,
        stop: threading.Event | None = None,
    ) -> list["DataFinding"]:
        """Return which rows are skipped or truncated. Raises UserError where the job could not start."""
        return self.checked(config, owner, progress=progress, stop=stop).findings

    def checked(
        self,
        config: RunConfig,
        owner: Owner,
        *,
        progress: OnProgress | None = None,
        stop: threading.Event | None = None,
    ) -> CheckResult:
        """Return what `check` returns, with rows and steps. Nothing is paid, sent or stored."""

        def find_base(placed: RunConfig, scratch: Owner) -> tuple[str, Path]:
            base = self._look(placed, owner, scratch)[1]
            return base.reference, base.folder

        return prepare.check_run(config, owner, progress, stop, find_base)

    def _look(self, config: RunConfig, owner: Owner, datasets: Owner) -> tuple[Flavor, PinnedBase]:
        """Run the checks and report them; `datasets` is the owner of the datasets that the config names."""
        checks, machine, base = look(config, owner, self.flavor, self.timeout, self.agreed)
        if self.on_checked is not None:
            self.on_checked(checks, machine, estimate(config, datasets, machine, base.parameters))
        return machine, base

    def start(
        self,
        config: RunConfig,
        owner: Owner,
        *,
        progress: OnProgress | None = None,
        stop: threading.Event | None = None,
    ) -> str:
        """Check everything, send data and sources to a private repository, start the job. Returns the run's id.

        Raises UserError; a start refused before it was paid leaves no run. Where the Hub took the job but its answer
        was lost, the run stays and `sync` finds the job by its label.
        """
        steps = StartSteps(progress, stop)
        steps.next("job.progress.checking")
        config = import_data(config, owner, progress, stop)
        machine, base = self._look(config, owner, owner)
        check_imported(config, owner, base.reference, base.folder)
        config = with_processes(config, machine)
        check_room(owner)
        owner.runs.mkdir(parents=True, exist_ok=True)
        with full_disk_in_words(owner.runs):
            return self._begin(config, owner, machine, base, steps)

    def _begin(self, config: RunConfig, owner: Owner, machine: Flavor, base: PinnedBase, steps: StartSteps) -> str:
        """Create a run and start its job. Returns the run's id; a run whose job was not requested is deleted again."""
        run = reserve(owner)
        environment = {"base": base.reference, "asked": config.model, "revision": base.revision, "stand_in": False}
        try:
            write_json(run.folder / "env.json", environment)
            self._launch(run, config, owner, machine, base, steps)
        except BaseException:
            if job_of(run) is None:
                shutil.rmtree(run.folder)
            raise
        return run.id

    def resume(
        self,
        run: Run,
        owner: Owner,
        *,
        progress: OnProgress | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Start a new job that continues from the last uploaded checkpoint. Raises UserError."""
        sync(run, owner, log=False)
        catch_up(run, owner)
        if run.alive():
            raise UserError("run.alive", value=run.id)
        if run.progress().ending == "done":
            raise UserError("run.is_done", value=run.id)
        check_config_kept(run)
        check_room(owner)
        steps = StartSteps(progress, stop)
        steps.next("job.progress.checking")
        pinned = run.config().model_copy(update={"model": str(run.environment()["base"])})
        machine, base = self._look(pinned, owner, owner)
        with full_disk_in_words(run.folder):
            self._launch(run, run.config(), owner, machine, base, steps)

    def stop(self, run: Run, owner: Owner | None = None) -> None:
        """Ask the job to save a checkpoint and end; returns at once. A job that does not run yet is canceled.

        `sync` cancels it when it takes too long. Raises UserError where nothing is running.
        """
        owner = owner or self.owner
        assert owner is not None, "a job is stopped with somebody's token"
        sync(run, owner, log=False)
        record = job_of(run)
        if record is None or not record.active or record.id is None:
            raise UserError("run.not_alive", value=run.id, status=run.status().status)
        if record.stage != "RUNNING":
            cancel_before_start(run, owner)
            return sync(run, owner)
        request_stop(run, owner)

    def alive(self, run: Run) -> bool:
        """Return whether the job is queued or running, as of the last sync."""
        return run.alive()

    def wait(self, run: Run, owner: Owner) -> None:
        """Wait until the job has ended."""
        follow(run, owner).join()

    def _launch(
        self, run: Run, config: RunConfig, owner: Owner, machine: Flavor, base: PinnedBase, steps: StartSteps
    ) -> None:
        """Create the private repositories, send the inputs and start the job, under the run's lock."""
        before = job_of(run)
        user = str(whoami(owner)["name"])
        record = JobRecord(
            id=None,
            url=None,
            namespace=user,
            flavour=machine.name,
            usd_per_hour=machine.usd_per_hour,
            timeout=seconds_of(self.timeout),
            attempt=before.attempt + 1 if before else 1,
            inputs=f"{user}/{INPUTS}",
            results=before.results if before else f"{user}/tunescope-run-{run.id}",
            others=before.costs if before else {},
        )
        with starting(run):
            if job_of(run) != before:
                raise UserError("run.alive", value=run.id)
            steps.next("job.progress.sending")
            write_access(owner, record.inputs, "dataset")
            write_access(owner, record.results, "model")
            record = _push(run, config, owner, record, base)
            steps.next("job.progress.renting")
            flavor_named(machine.name, owner, machine.usd_per_hour)  # sending takes a while, and prices change
            with room(owner), locked(run):
                record_start(run, config, record, before)
            self._rent(run, owner, record, before)

    def _rent(self, run: Run, owner: Owner, record: JobRecord, before: JobRecord | None) -> None:
        """Request the machine. A clear refusal undoes everything; after a lost answer the job is looked for later."""
        try:
            with in_words(owner, record.flavour):
                job = api(owner).run_job(**specification(run, record, owner))
        except UserError as error:
            if error.code in UNCERTAIN:
                raise UserError("job.unknown_start", value=run.id, reason=str(error)) from error
            undo_start(run, before, str(error))
            raise
        with suppress(OSError), locked(run):  # with a full disk the job, which is paid for, is found by its label
            update(run, **facts_of(job))


def _push(run: Run, config: RunConfig, owner: Owner, record: JobRecord, base: PinnedBase) -> JobRecord:
    job_json = {
        "results": record.results,
        "base": base.reference,
        "asked": config.model,
        "revision": base.revision,
        "fingerprint": run.environment().get("fingerprint"),
        "attempt": record.attempt,
        "timeout": record.timeout,
        "poll_seconds": POLL_SECONDS,
    }
    commit, source = push_inputs(run.id, config, owner, record.inputs, job_json)
    return replace(record, commit=commit, source=source, asked=time.time())


def launcher_of(run: Run, owner: Owner | None = None) -> Launcher:
    """Return the launcher of a run: a job as before (same machine, same time limit) or a process of this machine."""
    from finetune.launch.local.launcher import LocalLauncher

    record = job_of(run)
    return JobsLauncher(record.flavour, record.timeout, owner) if record else LocalLauncher()
