"""Rented jobs: looked up and followed in the background, and the facts shown of one."""

import json
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import settings
from core.errors import UserError
from core.hub import reach
from core.workspace import Owner
from finetune.launch.jobs import launcher as jobs
from finetune.runs.run import Run
from ui.parts import preload

EVERY_SECONDS = 60.0
TAIL_BYTES = 16 * 1024
STAGES = ("ASKED", "SCHEDULING", "RUNNING", "COMPLETED", "CANCELED", "ERROR", "DELETED", "VANISHED")
log = logging.getLogger("tunescope")


@dataclass
class JobLookup:
    """The state of the lookup of somebody's jobs elsewhere: when it last ran, and how often jobs arrived."""

    looked_up: float = -EVERY_SECONDS
    thread: threading.Thread | None = None
    arrivals: int = 0


_lookups: dict[Path, JobLookup] = {}
"""The lookup of each workspace, by its folder of runs."""
_lock = threading.Lock()


def find_again(owner: Owner) -> None:
    """Look in the background for jobs of an owner with a token, and follow them; return at once.

    One lookup at a time, and at most one a minute.
    """
    if not owner.token or settings.hub_offline():
        return
    with _lock:
        known = _lookups.setdefault(owner.runs, JobLookup())
        busy = known.thread is not None and known.thread.is_alive()
        if busy or time.monotonic() - known.looked_up < EVERY_SECONDS:
            return
        known.looked_up = time.monotonic()
        known.thread = threading.Thread(target=_find, args=(owner, known), name="find jobs", daemon=True)
        known.thread.start()


def _find(owner: Owner, known: JobLookup) -> None:
    preload.settled(EVERY_SECONDS)
    if not reach.reachable():
        return
    before = {path.name for path in owner.runs.glob("r*")}
    try:
        runs = jobs.attach(owner)
    except UserError as error:
        log.info("job lookup skipped: %s", error.code)
        return
    except Exception:
        log.exception("job lookup failed")
        return
    for run in runs:
        keep_up(run, owner)
    if {run.id for run in runs} - before:
        known.arrivals += 1


def arrivals(owner: Owner) -> int:
    """Return how often jobs of another machine arrived: a list of runs that was filled before is out of date."""
    known = _lookups.get(owner.runs)
    return known.arrivals if known else 0


def keep_up(run: Run, owner: Owner) -> None:
    """Follow an active job in a thread; leave one alone that is already followed."""
    record = jobs.job_of(run)
    if record is not None and record.active and owner.token and not settings.hub_offline():
        jobs.follow(run, owner)


def stamp(run: Run) -> str:
    """Return a text that changes with every update of a job; empty for a run of this machine."""
    times = []
    for name in ("job.json", "metrics.jsonl"):
        try:
            times.append(str(os.stat(run.folder / name).st_mtime_ns))
        except FileNotFoundError:
            continue
    return "-".join(times)


def rented(run: Run) -> dict[str, Any] | None:
    """Return what the view of a run shows of its job: the record, the most it may cost, how busy the machine is."""
    record = jobs.job_of(run)
    if record is None:
        return None
    cap = most(record.usd_per_hour, record.timeout)
    return {"job": record, "most": cap, "machine": _machine(run), "stages": STAGES, "usd": usd}


def usd(amount: float) -> str:
    """Format dollars, with a third digit for amounts under ten cents."""
    return f"${amount:.2f}" if amount >= 0.1 or not amount else f"${amount:.3f}"


def most(usd_per_hour: float, seconds: int) -> float:
    """Return the cost of a job that uses its full time limit."""
    return usd_per_hour * seconds / 3600


def _machine(run: Run) -> dict[str, float | None] | None:
    """Return the last sample of the machine: processor and GPU in percent, memory of both in bytes."""
    sample = _last_sample(run)
    if sample is None:
        return None
    gpus = [gpu for gpu in (sample.get("gpus") or {}).values() if isinstance(gpu, dict)]
    busy = [gpu["utilization"] for gpu in gpus if isinstance(gpu.get("utilization"), int | float)]
    used = [gpu["memory_used_bytes"] for gpu in gpus if isinstance(gpu.get("memory_used_bytes"), int | float)]
    return {
        "cpu": sample.get("cpu_usage_pct"),
        "memory": sample.get("memory_used_bytes"),
        "gpu": sum(busy) / len(busy) if busy else None,
        "gpu_memory": sum(used) if used else None,
    }


def _last_sample(run: Run) -> dict[str, Any] | None:
    try:
        with open(run.folder / "metrics.jsonl", "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            sample = json.loads(line)
        except ValueError:
            continue
        if isinstance(sample, dict):
            return sample
    return None
