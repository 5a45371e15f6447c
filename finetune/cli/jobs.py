"""What the shell says about rented jobs: flavours, checks before the start, a job's stage and cost."""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.words import say
from core.workspace import Owner
from finetune.runs.job_record import JobRecord, job_of

if TYPE_CHECKING:
    from finetune.config.run_config import RunConfig
    from finetune.launch.jobs.launcher import Check, Estimate, Flavor
    from finetune.plan.prepare import CheckResult, OnProgress
    from finetune.runs.run import Run

_MARKS = {True: "+", False: "!", None: "?"}


def job_flags(command: argparse.ArgumentParser, *, place: bool) -> None:
    """The options of a rented machine; `place` adds the choice between it and this one (see `rented`)."""
    if place:
        command.add_argument("--on", choices=("local", "jobs"), default="local", help=say("job.help.on"))
    command.add_argument("--flavor", metavar="NAME", help=say("job.help.flavor"))
    command.add_argument("--timeout", metavar="2h", help=say("job.help.timeout"))


def rented(arguments: argparse.Namespace) -> bool:
    """Whether a person chose a rented machine. Raises UserError for its options without that choice."""
    if arguments.on == "jobs":
        return True
    if arguments.flavor or arguments.timeout:
        raise UserError("job.shell.only_jobs")
    return False


def check_job(
    config: "RunConfig", owner: Owner, flavour: str | None, timeout: str | None, progress: "OnProgress"
) -> "CheckResult":
    """Check all that a start would, and say it on stderr; nothing is started, sent or kept."""
    from finetune.launch.jobs.launcher import JobsLauncher

    return JobsLauncher(*_named(flavour, timeout), on_checked=_tell).checked(config, owner, progress=progress)


def start_job(
    config: "RunConfig", owner: Owner, flavour: str | None, timeout: str | None, progress: "OnProgress"
) -> str:
    """Check, say on stderr what was found and about what it will cost, start. Returns the run's id."""
    from finetune.launch.jobs.launcher import JobsLauncher

    return JobsLauncher(*_named(flavour, timeout), on_checked=_tell).start(config, owner, progress=progress)


def resume_job(run: "Run", owner: Owner, flavour: str | None, timeout: str | None, progress: "OnProgress") -> None:
    """Go on with a job's run, on the same machine as before unless another is named; checked and said as a start is."""
    from finetune.launch.jobs.launcher import JobsLauncher

    record = job_of(run)
    assert record is not None, "a run of this machine is resumed here"
    launcher = JobsLauncher(flavour or record.flavour, timeout or record.timeout, on_checked=_tell)
    launcher.resume(run, owner, progress=progress)


def _named(flavour: str | None, timeout: str | None) -> tuple[str, str]:
    """Raises UserError where one of them is missing."""
    if not flavour or not timeout:
        raise UserError("job.shell.options")
    return flavour, timeout


def _tell(checks: list["Check"], machine: "Flavor", rough: "Estimate") -> None:
    """What was looked at, and roughly what it will cost, on stderr."""
    for check in checks:
        print(_MARKS[check.ok], check.sentence, file=sys.stderr)
    facts = {"flavour": machine.title, "price": f"{machine.usd_per_hour:.2f}", "usd": f"{rough.usd:.2f}"}
    print(say("job.shell.estimate", minutes=max(rough.seconds // 60, 1), **facts), file=sys.stderr)


def sync_all(runs: list["Run"], owner: Owner) -> None:
    """Bring all runs that are jobs up to date, side by side; what goes wrong is said on stderr."""
    jobs = [run for run in runs if job_of(run) is not None]
    if not jobs:
        return
    from finetune.launch.jobs.launcher import sync_quietly

    with ThreadPoolExecutor(min(len(jobs), 8)) as pool:
        list(pool.map(lambda run: sync_quietly(run, owner), jobs))
    for run in jobs:
        record = job_of(run)
        if record and record.problem:
            print(run.id, record.problem, file=sys.stderr)


def job_json(run: "Run") -> dict[str, Any]:
    """What `--json` adds to a run's status where it is a job."""
    record = job_of(run)
    return {"job": record.to_json()} if record else {}


def job_line(record: JobRecord) -> str:
    """A job's flavour, stage, time and cost in one line."""
    facts = {"flavour": record.flavour, "stage": record.stage, "usd": f"{record.usd_so_far:.2f}"}
    return say("job.shell.line", minutes=record.running_secs // 60, url=record.url or "-", **facts)


def stop_job(run: "Run", owner: Owner) -> None:
    """Ask a job to stop and wait until it has ended."""
    from finetune.launch.jobs.launcher import JobsLauncher

    launcher = JobsLauncher("", "", owner)
    launcher.stop(run)
    launcher.wait(run, owner)


def flavor_lines(owner: Owner) -> list[str]:
    """The table of machines, a line each."""
    from finetune.launch.jobs.launcher import flavours

    found = flavours(owner)
    lines = [] if all(one.current for one in found) else [say("job.not_current")]
    for one in found:
        gpu = f"{one.gpus} x {one.accelerator} {one.gpu_memory_gb:g} GB" if one.gpus else "-"
        price = say("job.shell.an_hour", usd=f"{one.usd_per_hour:.2f}")
        lines.append(f"{one.name:16}{gpu:24}{one.memory_gb:6g} GB{one.cpus:5} CPU   {price}")
    return lines
