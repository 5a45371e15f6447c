"""Runs on this machine: one detached process each, in its own session, that outlives its starter."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from core import settings, words
from core.errors import UserError
from core.files import full_disk_in_words, read_json, write_json
from core.workspace import Owner
from finetune.config.run_config import RunConfig
from finetune.launch.local.warm_start import PROJECT, PrestartedWorker
from finetune.plan.planner import plan_for_start
from finetune.plan.prepare import OnProgress, base_of, check_run, import_data, same_base
from finetune.plan.record import keep_plan
from finetune.runs.checkpoint_config import check_config_kept
from finetune.runs.child_environment import child_environment
from finetune.runs.device_queue import devices_of, draw_tickets
from finetune.runs.lock import take
from finetune.runs.quota import check_room, room
from finetune.runs.run import Run, reserve

if TYPE_CHECKING:
    from finetune.data.findings import DataFinding
    from inference.models.types import Fetched


class LocalLauncher:
    """Starts, resumes and stops runs as processes of this machine."""

    def check(
        self,
        config: RunConfig,
        owner: Owner,
        *,
        progress: OnProgress | None = None,
        stop: threading.Event | None = None,
    ) -> list["DataFinding"]:
        """Return which rows are skipped or truncated. Raises UserError where the run could not start."""
        _refuse_on_zero()
        return check_run(config, owner, progress, stop).findings

    def start(
        self,
        config: RunConfig,
        owner: Owner,
        *,
        progress: OnProgress | None = None,
        stop: threading.Event | None = None,
    ) -> str:
        """Import the data, fetch the base model, then start a detached run. Returns its id at once; the run waits for
        its device.

        Raises UserError before there is any run. `stop` ends the fetching.
        """
        launch = self._begin(config, owner, progress, stop)
        with _all_or_nothing(launch.run):
            launch.spawn()
        return launch.run.id

    def train(self, config: RunConfig, owner: Owner, *, progress: OnProgress | None = None) -> NoReturn:
        """Do as `start`, but in the foreground: Ctrl-C stops the run, and its exit code is this process's.

        The training process is started ahead and imports what it needs while config and data are checked here.
        """
        devices = devices_of(config.compute.device, config.compute.processes)
        if config.compute.processes > 1:
            self._begin(config, owner, progress, None).become()
        with PrestartedWorker(devices) as worker:
            self._begin(config, owner, progress, None).become(worker)

    def resume(
        self,
        run: Run,
        owner: Owner,
        *,
        progress: OnProgress | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Continue from the last complete checkpoint, detached. Raises UserError where the run is running or done."""
        with full_disk_in_words(run.folder):
            self._prepare_resume(run, owner, progress, stop).spawn()

    def resume_in_process(self, run: Run, owner: Owner, *, progress: OnProgress | None = None) -> NoReturn:
        """Resume the run in this very process. A rented job trains this way; its run folder exists already."""
        self._prepare_resume(run, owner, progress, None).become()

    def _prepare_resume(
        self, run: Run, owner: Owner, progress: OnProgress | None, stop: threading.Event | None
    ) -> "_Launch":
        with room(owner):
            lock = take(run)
        try:
            if run.progress().ending == "done":
                raise UserError("run.is_done", value=run.id)
            check_config_kept(run)
            return _Launch(run, same_base(run, owner, progress, stop), lock)
        except BaseException:
            os.close(lock)
            raise

    def stop(self, run: Run) -> None:
        """Ask the run to save a checkpoint and end; returns at once. Raises UserError where nothing is running."""
        handle = _handle(run)
        if not run.alive() or not handle:
            raise UserError("run.not_alive", value=run.id, status=run.status().status)
        if handle["host"] != socket.gethostname():
            raise UserError("run.other_machine", value=run.id, host=handle["host"])
        try:
            os.kill(handle["pid"], signal.SIGTERM)
        except ProcessLookupError:
            raise UserError("run.not_alive", value=run.id, status=run.status().status) from None

    def alive(self, run: Run) -> bool:
        """Return whether the run is queued or running."""
        return run.alive()

    def _begin(
        self, config: RunConfig, owner: Owner, progress: OnProgress | None, stop: threading.Event | None
    ) -> "_Launch":
        check_here(owner)
        config = import_data(config, owner, progress, stop)
        base = base_of(config, owner, progress, stop)
        plan = plan_for_start(config, owner, base)
        with room(owner):
            run = reserve(owner)
            with _all_or_nothing(run):
                lock = take(run)
                try:
                    write_json(run.folder / "env.json", _recorded(base))
                    keep_plan(run, plan)
                    run.save(config)
                    return _Launch(run, base, lock)
                except BaseException:
                    os.close(lock)
                    raise


class _Launch:
    """A run whose lock is held here and about to be passed to its process."""

    def __init__(self, run: Run, base: "Fetched", lock: int) -> None:
        self.run = run
        self.base = base
        self.lock = lock
        compute = run.config().compute
        self.devices = devices_of(compute.device, compute.processes)
        self.tickets = draw_tickets(self.devices, run.id)
        try:
            run.log.write("queued", device=" ".join(self.devices))
        except BaseException:
            for ticket in self.tickets:
                os.close(ticket)
            raise

    def spawn(self) -> None:
        """Start the process in a session of its own, its output in the log, and close our copies of the locks.

        Stop signals are blocked until the process has its handlers, so that one sent at once is not lost.
        """
        signals = {signal.SIGTERM, signal.SIGINT}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            with open(self.run.log_path, "ab") as log:
                process = subprocess.Popen(
                    self._command(),
                    cwd=PROJECT,
                    env=child_environment(self.devices),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(self.lock, *self.tickets),
                )
            try:
                self._write_handle(process.pid)
            except BaseException:
                process.kill()
                process.wait()
                raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            for descriptor in (self.lock, *self.tickets):
                os.close(descriptor)
        threading.Thread(target=process.wait, daemon=True).start()

    def become(self, worker: PrestartedWorker | None = None) -> NoReturn:
        """Turn this process into the run's, or give the run to the one that was started ahead and wait for its end."""
        if worker is not None:
            self._write_handle(worker.process.pid)
            worker.become(self._arguments("--foreground"), [self.lock, *self.tickets])
        self._write_handle(os.getpid())
        for descriptor in (self.lock, *self.tickets):
            os.set_inheritable(descriptor, True)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        sys.stdout.flush()
        os.chdir(PROJECT)
        command = self._command("--foreground")
        os.execve(command[0], command, child_environment(self.devices))

    def _write_handle(self, pid: int) -> None:
        write_json(self.run.folder / "handle.json", {"host": socket.gethostname(), "pid": pid})

    def _command(self, *more: str) -> list[str]:
        locks = ["--lock", str(self.lock), "--tickets", *map(str, self.tickets)]
        return [settings.python(), "-m", "finetune.launch.local.worker", *self._arguments(*more), *locks]

    def _arguments(self, *more: str) -> list[str]:
        """Return the worker's arguments without the locks."""
        arguments = [str(self.run.folder), "--base", str(self.base.folder), "--devices", *self.devices]
        return [*arguments, "--locale", words.current(), *more]


@contextmanager
def _all_or_nothing(run: Run) -> Iterator[None]:
    """Delete a new run whose start fails. Raises UserError where the disk was full."""
    try:
        with full_disk_in_words(run.folder):
            yield
    except BaseException:
        shutil.rmtree(run.folder, ignore_errors=True)
        raise


def check_here(owner: Owner) -> None:
    """Raise UserError where the owner may not start a run on this machine now."""
    _refuse_on_zero()
    check_room(owner)


def _refuse_on_zero() -> None:
    """Raise UserError on a ZeroGPU Space, whose GPU is released after a comparison: a run would outlive it."""
    if settings.zero_gpu():
        raise UserError("run.zero_gpu")


def _handle(run: Run) -> dict | None:
    path = run.folder / "handle.json"
    return read_json(path) if path.is_file() else None


def _recorded(base: "Fetched") -> dict[str, object]:
    """Return what env.json says of the base model before the process adds versions, device and dtype."""
    return {
        "base": base.reference,
        "asked": base.requested,
        "revision": base.revision,
        "fingerprint": base.fingerprint,
        "stand_in": base.stand_in,
    }
