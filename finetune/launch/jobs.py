"""Runs on rented machines: the same RunConfig as a Hugging Face Job.

JobsLauncher("a10g-small", "2h").start(config, owner) -> run id; sync(run, owner) brings it up to date from anywhere.
"""

import fcntl
import os
import shutil
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.files import write_json
from core.words import say
from core.workspace import Owner
from finetune.config import RunConfig, load_yaml, to_yaml
from finetune.launch import Launcher
from finetune.launch.job_attach import attach
from finetune.launch.job_bundle import push_inputs
from finetune.launch.job_checks import Base, Check, look, preflight, seconds_of, write_access
from finetune.launch.job_estimate import Estimate, estimate
from finetune.launch.job_flavours import Flavour, flavours
from finetune.launch.job_follow import follow
from finetune.launch.job_hub import LABEL, api, in_words, token_of, whoami
from finetune.launch.job_newer import catch_up
from finetune.launch.job_record import JobRecord, job_of, locked, save, update
from finetune.launch.job_sync import cancel, facts_of, sync, sync_quietly
from finetune.launch.room import check_room, room
from finetune.prepare import OnProgress, import_data, look_at
from finetune.run import Run, reserve

if TYPE_CHECKING:
    from finetune.data.findings import Finding

__all__ = [
    "Check",
    "Estimate",
    "Flavour",
    "JobRecord",
    "JobsLauncher",
    "attach",
    "estimate",
    "flavours",
    "follow",
    "job_of",
    "launcher_of",
    "preflight",
    "sync",
    "sync_quietly",
]

INPUTS = "tunescope-inputs"
POLL_SECONDS = 15.0
"""How often a job looks whether it was asked to stop."""


class JobsLauncher:
    """Starts, resumes and stops runs as Hugging Face Jobs. `owner` is who asks where a call does not say."""

    def __init__(self, flavour: str, timeout: str | int, owner: Owner | None = None) -> None:
        self.flavour, self.timeout, self.owner = flavour, timeout, owner

    def check(
        self,
        config: RunConfig,
        owner: Owner,
        *,
        progress: OnProgress | None = None,
        stop: threading.Event | None = None,
    ) -> list["Finding"]:
        """What the data holds that is left out or cut. Raises UserError where the job could not start."""
        config = import_data(config, owner, progress, stop)
        base = look(config, owner, self.flavour, self.timeout)[2]
        return look_at(config, owner, base.reference, base.folder).findings

    def start(
        self,
        config: RunConfig,
        owner: Owner,
        *,
        progress: OnProgress | None = None,
        stop: threading.Event | None = None,
    ) -> str:
        """Check everything, send data and sources to a private repository, start the job. Returns the run's id.

        Raises UserError; what was refused before it was paid leaves no run. Where the Hub took the job but its answer
        was lost, the run stays and `sync` finds the job by its label.
        """
        steps = _Steps(progress, stop)
        steps.next("job.progress.checking")
        config = import_data(config, owner, progress, stop)
        _, machine, base = look(config, owner, self.flavour, self.timeout)
        look_at(config, owner, base.reference, base.folder)
        config = with_processes(config, machine)
        check_room(owner)
        run = reserve(owner)
        environment = {"base": base.reference, "asked": config.model, "revision": base.revision, "stand_in": False}
        write_json(run.folder / "env.json", environment)
        try:
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
        """Start a new job that goes on from the last checkpoint that was uploaded. Raises UserError."""
        sync(run, owner, log=False)
        catch_up(run, owner)
        if run.alive():
            raise UserError("run.alive", value=run.id)
        if run.progress().ending == "done":
            raise UserError("run.is_done", value=run.id)
        check_room(owner)
        steps = _Steps(progress, stop)
        steps.next("job.progress.checking")
        pinned = run.config().model_copy(update={"model": str(run.environment()["base"])})
        _, machine, base = look(pinned, owner, self.flavour, self.timeout)
        self._launch(run, run.config(), owner, machine, base, steps)

    def stop(self, run: Run, owner: Owner | None = None) -> None:
        """Ask the job to save a checkpoint and end; returns at once. One that does not run yet is cancelled.

        `sync` cancels it when it takes too long. Raises UserError where nothing is at work.
        """
        owner = owner or self.owner
        assert owner is not None, "a job is stopped with somebody's token"
        sync(run, owner, log=False)
        record = job_of(run)
        if record is None or not record.at_work or record.id is None:
            raise UserError("run.not_alive", value=run.id, status=run.status().status)
        if record.asked_to_stop is None:
            with locked(run):
                record = update(run, asked_to_stop=time.time())
        if record.stage != "RUNNING":
            cancel(run, owner)
            return sync(run, owner)
        with in_words(owner, record.results):
            api(owner).upload_file(
                path_or_fileobj=b"stop\n",
                path_in_repo=f"control/stop-{record.attempt}",
                repo_id=record.results,
                commit_message="Stop",
                token=token_of(owner),
            )

    def alive(self, run: Run) -> bool:
        """Whether the job is queued or running, as far as was last heard."""
        return run.alive()

    def wait(self, run: Run, owner: Owner) -> None:
        """Come back when the job has ended."""
        follow(run, owner).join()

    def _launch(self, run: Run, config: RunConfig, owner: Owner, machine: Flavour, base: Base, steps: "_Steps") -> None:
        """Everything from the private repositories to the job's id in the run folder, under the run's lock."""
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
            usd_earlier=before.usd_so_far if before else 0.0,
        )
        with _starting(run):
            if job_of(run) != before:
                raise UserError("run.alive", value=run.id)
            steps.next("job.progress.sending")
            write_access(owner, record.inputs, "dataset")
            write_access(owner, record.results, "model")
            record = _push(run, config, owner, record, base)
            steps.next("job.progress.renting")
            with room(owner), locked(run):
                if before is None:
                    run.save(config)
                save(run, record)
                run.log.write("queued", device=machine.name, attempt=record.attempt)
            self._rent(run, owner, record, before)

    def _rent(self, run: Run, owner: Owner, record: JobRecord, before: JobRecord | None) -> None:
        """Ask for the machine. A clear refusal takes everything back; an answer that got lost is looked for later."""
        try:
            with in_words(owner, record.flavour):
                told = api(owner).run_job(**specification(run, record, owner))
        except UserError as error:
            if error.code in ("job.unreachable", "job.hub_broken"):
                raise UserError("job.unknown_start", value=run.id, reason=str(error)) from error
            _take_back(run, before, str(error))
            raise
        with locked(run):
            update(run, **facts_of(told))


class _Steps:
    """Tells what is being done, and ends it between two steps where somebody asked to."""

    def __init__(self, progress: OnProgress | None, stop: threading.Event | None) -> None:
        self.progress, self.stop, self.done = progress, stop, 0

    def next(self, key: str) -> None:
        from inference.sources import Progress

        if self.stop is not None and self.stop.is_set():
            raise UserError("job.start_stopped")
        if self.progress is not None:
            self.progress(Progress(say(key), self.done, 3, "steps"))
        self.done += 1


class _starting:
    """Hold the run's lock while its job is being started: nobody else starts one, and who looks knows."""

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


def _push(run: Run, config: RunConfig, owner: Owner, record: JobRecord, base: Base) -> JobRecord:
    told = {
        "results": record.results,
        "base": base.reference,
        "asked": config.model,
        "revision": base.revision,
        "fingerprint": run.environment().get("fingerprint"),
        "attempt": record.attempt,
        "timeout": record.timeout,
        "poll_seconds": POLL_SECONDS,
    }
    commit, source = push_inputs(run.id, config, owner, record.inputs, told)
    return replace(record, commit=commit, source=source, asked=time.time())


def _take_back(run: Run, before: JobRecord | None, error: str) -> None:
    """The Hub said no: a new run is no run; a resumed one stands as its last job left it."""
    with locked(run):
        if before is None:
            (run.folder / "job.json").unlink()
        else:
            save(run, before)
            run.log.write("failed", step=run.progress().step, error=error, reason="refused")


def specification(run: Run, record: JobRecord, owner: Owner) -> dict[str, Any]:
    """The arguments of `run_job`. The caller's token goes into the job's secrets and nowhere else."""
    from huggingface_hub import Volume

    mine = f"/inputs/runs/{run.id}"
    source = f"/inputs/sources/{record.source}.zip"
    script = (
        "set -e\n"
        f'echo "{record.source}  {source}" | sha256sum --check --status\n'
        f"python -m pip install --quiet --no-cache-dir --root-user-action=ignore -r {mine}/requirements.txt\n"
        'cd "${TMPDIR:-/tmp}"\n'
        f"python -m zipfile -e {source} tunescope\n"
        "cd tunescope\n"
        f"exec python -m finetune.launch.inside /inputs {run.id}\n"
    )
    volume = Volume(type="dataset", source=record.inputs, mount_path="/inputs", revision=record.commit, read_only=True)
    return {
        "image": f"python:{sys.version_info.major}.{sys.version_info.minor}",
        "command": ["bash", "-c", script],
        "env": {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONUNBUFFERED": "1"},
        "secrets": {"HF_TOKEN": token_of(owner)},
        "flavor": record.flavour,
        "timeout": record.timeout,
        "name": f"tunescope-{run.id}",
        "labels": {"made-by": LABEL, LABEL: run.id, f"{LABEL}-attempt": str(record.attempt)},
        "volumes": [volume],
        "namespace": record.namespace,
        "token": token_of(owner),
    }


def with_processes(config: RunConfig, machine: Flavour) -> RunConfig:
    """The config with a process for each GPU, where it does not say how many."""
    if machine.gpus < 2 or "processes" in config.compute.model_fields_set:
        return config
    compute = config.compute.model_copy(update={"processes": machine.gpus})
    return load_yaml(to_yaml(config.model_copy(update={"compute": compute})))


def launcher_of(run: Run, owner: Owner | None = None) -> Launcher:
    """What runs a run: a job as before (same machine, same time limit) or a process of this machine."""
    from finetune.launch.local import LocalLauncher

    record = job_of(run)
    return JobsLauncher(record.flavour, record.timeout, owner) if record else LocalLauncher()
