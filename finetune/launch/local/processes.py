"""A run on several processes: the worker starts `accelerate launch`, which starts them, and waits for their end."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from core import settings, words
from core.errors import UserError
from finetune.config.device import launch_line, launch_options
from finetune.config.run_config import RunConfig
from finetune.launch.local.rendezvous import Rendezvous
from finetune.runs.failure_reasons import explain
from finetune.runs.run import Run

STOPPED = ("stopped", "done")


def train_together(
    run: Run, base: Path, device: str, on_stop: Callable[[Callable[[], None]], None], foreground: bool
) -> bool:
    """Train with as many processes as the config says. Returns whether the run was stopped before its end.

    `on_stop` is given the function to call when a stop is requested. Raises UserError with the reason of the process
    that failed first, or because one ended without giving a reason.
    """
    config = run.config()
    rendezvous = Rendezvous.open_in(run)
    try:
        on_stop(rendezvous.request_stop)
        more = ["--foreground"] if foreground else []
        code = _wait(_start(_command(config, run, base, rendezvous, more), config, device))
        ending = run.progress().ending
        if code == 0 and ending in STOPPED:
            return ending == "stopped"
        raise rendezvous.reason() or _lost_process(run, config, device)
    finally:
        rendezvous.close()


def _lost_process(run: Run, config: RunConfig, device: str) -> UserError:
    """Return why a process may have ended without a reason: a full disk, where it cannot write one, or a kill."""
    found = explain(ChildProcessError(), config, run.progress().step, device, run.folder)
    full = found.code == "run.disk"
    return found if full else UserError("run.process_lost", count=config.compute.processes)


def _command(config: RunConfig, run: Run, base: Path, rendezvous: Rendezvous, more: list[str]) -> list[str]:
    """Return the launcher's command. On a CPU, too, it is told of several GPUs: with `--cpu` it starts one process."""
    count = config.compute.processes
    quiet = [
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--num_cpu_threads_per_process",
        str(_threads(count)),
    ]
    rank = [
        "finetune.launch.local.rank_process",
        str(run.folder),
        "--base",
        str(base),
        "--meeting",
        str(rendezvous.folder),
    ]
    program = [settings.python(), "-m", "accelerate.commands.launch", *launch_options(count), *quiet, "-m", *rank]
    return [*program, "--locale", words.current(), *more]


def _threads(processes: int) -> int:
    """Return the threads of each process: its share of the cores, unless the environment sets them."""
    value = os.environ.get("OMP_NUM_THREADS", "")
    return int(value) if value.isdigit() else max(1, (os.cpu_count() or 1) // processes)


def _start(command: list[str], config: RunConfig, device: str) -> subprocess.Popen[bytes]:
    """Start the launcher in its own session, so that a terminal's Ctrl-C reaches the worker alone; print its command to
    the log."""
    print(f"$ {launch_line(config.compute.processes)}", flush=True)
    environment = dict(os.environ)
    if device == "cpu":
        environment["ACCELERATE_USE_CPU"] = "true"
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)


def _wait(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
