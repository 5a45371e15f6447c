"""Rented jobs in the shell: the table of flavors, checks before the start, a job's stage and cost."""

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
    from finetune.launch.jobs.launcher import Check, Flavor, JobEstimate
    from finetune.plan.prepare import CheckResult, OnProgress
    from finetune.runs.run import Run

_MARKS = {True: "+", False: "!", None: "?"}


def job_flags(command: argparse.ArgumentParser, *, place: bool) -> None:
    """Add the options of a rented machine, with `place` also `--on`, which chooses between it and this one (see
    `rented`)."""
    if place:
        command.add_argument("--on", choices=("local", "jobs"), default="local", help=say("job.help.on"))
    command.add_argument("--flavor", metavar="NAME", help=say("job.help.flavor"))
    command.add_argument("--timeout", metavar="2h", help=say("job.help.timeout"))


def rented(arguments: argparse.Namespace) -> bool:
    """Return whether the command asks for a rented machine. Raises UserError for its options without `--on jobs`."""
    if arguments.on == "jobs":
        return True
    if arguments.flavor or arguments.timeout:
        raise UserError("job.shell.only_jobs")
    return False


def check_job(
    config: "RunConfig", owner: Owner, flavor: str | None, timeout: str | None, progress: "OnProgress"
) -> "CheckResult":
    """Run every check of a start and print it on stderr; nothing is started, sent or stored."""
    from finetune.launch.jobs.launcher import JobsLauncher

    return JobsLauncher(*_required_options(flavor, timeout), on_checked=_print_checks).checked(
        config, owner, progress=progress
    )


def start_job(
    config: "RunConfig", owner: Owner, flavor: str | None, timeout: str | None, progress: "OnProgress"
) -> str:
    """Run the checks, print them and the estimated price on stderr, start the job. Returns the run's id."""
    from finetune.launch.jobs.launcher import JobsLauncher

    return JobsLauncher(*_required_options(flavor, timeout), on_checked=_print_checks).start(
        config, owner, progress=progress
    )


def resume_job(run: "Run", owner: Owner, flavor: str | None, timeout: str | None, progress: "OnProgress") -> None:
    """Start a new job that continues the run, on the same flavor as before unless another is named; checked and printed
    as a start is."""
    from finetune.launch.jobs.launcher import JobsLauncher

    record = job_of(run)
    assert record is not None, "a run of this machine is resumed here"
    launcher = JobsLauncher(flavor or record.flavour, timeout or record.timeout, on_checked=_print_checks)
    launcher.resume(run, owner, progress=progress)


def _required_options(flavor: str | None, timeout: str | None) -> tuple[str, str]:
    """Return both options of a job. Raises UserError where one is missing."""
    if not flavor or not timeout:
        raise UserError("job.shell.options")
    return flavor, timeout


def _print_checks(checks: list["Check"], machine: "Flavor", rough: "JobEstimate") -> None:
    """Print the checks and the estimated price on stderr."""
    for check in checks:
        print(_MARKS[check.ok], check.sentence, file=sys.stderr)
    facts = {"flavour": machine.title, "price": f"{machine.usd_per_hour:.2f}", "usd": f"{rough.usd:.2f}"}
    print(say("job.shell.estimate", minutes=max(rough.seconds // 60, 1), **facts), file=sys.stderr)


def sync_all(runs: list["Run"], owner: Owner) -> None:
    """Sync all runs that are jobs, in parallel; problems are printed on stderr."""
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
    """Return what `--json` adds to a run's status: the job's record, if the run is a job."""
    record = job_of(run)
    return {"job": record.to_json()} if record else {}


def job_line(record: JobRecord) -> str:
    """Return a job's flavor, stage, time and cost in one line."""
    facts = {"flavour": record.flavour, "stage": record.stage, "usd": f"{record.usd_so_far:.2f}"}
    return say("job.shell.line", minutes=record.running_secs // 60, url=record.url or "-", **facts)


def stop_job(run: "Run", owner: Owner) -> None:
    """Ask a job to stop and wait until it has ended."""
    from finetune.launch.jobs.launcher import JobsLauncher

    launcher = JobsLauncher("", "", owner)
    launcher.stop(run)
    launcher.wait(run, owner)


def flavor_lines(owner: Owner) -> list[str]:
    """Return the table of flavors, one per line."""
    from finetune.launch.jobs.launcher import known_flavors

    flavors = known_flavors(owner)
    lines = [] if all(flavor.current for flavor in flavors) else [say("job.not_current")]
    for flavor in flavors:
        gpu = f"{flavor.gpus} x {flavor.accelerator} {flavor.gpu_memory_gb:g} GB" if flavor.gpus else "-"
        price = say("job.shell.an_hour", usd=f"{flavor.usd_per_hour:.2f}")
        lines.append(f"{flavor.name:16}{gpu:24}{flavor.memory_gb:6g} GB{flavor.cpus:5} CPU   {price}")
    return lines
