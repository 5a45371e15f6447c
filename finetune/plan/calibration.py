"""Measures two steps of the largest batch, and one of some others, on the device, in a separate process.

The measurements are cached: the same config on the same weights, data and device is not measured twice.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from core import settings
from core.errors import UserError
from core.files import read_json, write_json
from core.words import say
from finetune.config.run_config import RunConfig, Stage
from finetune.data.tokenizing.token_rows import TokenRow, write
from finetune.plan.durations import Pace, merged
from finetune.plan.machines import memory_of
from finetune.plan.rows import Shapes, StageRows
from finetune.runs.child_environment import child_environment
from finetune.runs.device_queue import devices_of, is_free
from finetune.runs.events import Event
from finetune.runs.run import Run
from inference.models.types import Fetched, Progress

FORMAT = 1
_FEW_TOKENS = 4096
_NEVER = 100_000_000
_LEFT = 0.03
"""The part of the memory that must stay free in a trial: below it the trial is ended, to protect other processes."""
_LOOKS_A_SECOND = 5


@dataclass(frozen=True)
class Calibration:
    """Measurements on a device: peak bytes with batches of `batch_size` rows, seconds until the model is loaded, and
    the pace of each stage. `alone`: no run was active there meanwhile; otherwise the calibration is not cached."""

    peak: float
    batch_size: int
    startup: float
    stages: tuple[Pace, ...]
    alone: bool = True


@dataclass(frozen=True)
class Trial:
    """The input of a stage's trial: its config, rows, batches and the prompts of an evaluation."""

    stage: Stage
    rows: StageRows
    shapes: Shapes
    prompts: list[dict[str, Any]]


def cached_calibration(key: str) -> Calibration | None:
    """Return the cached calibration of this key; None where there is none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = read_json(_cache_file(key))
        if kept["format"] == FORMAT:
            stages = tuple(
                Pace(**{**stage, "points": tuple((a, b) for a, b in stage["points"])}) for stage in kept["stages"]
            )
            return Calibration(kept["peak"], kept["batch_size"], kept["startup"], stages)
    return None


def key_of(config: RunConfig, fingerprint: str, device: str) -> str:
    """Return the cache key of a calibration: a hash of everything that a step's cost depends on, and nothing else."""
    inputs = config.model_dump(mode="json", exclude={"model", "seed", "watch", "version"})
    inputs["samples"] = [config.watch.sample_tokens, *config.watch.samples]
    text = json.dumps([FORMAT, inputs, fingerprint, device, os.cpu_count()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _cache_file(key: str) -> Path:
    return settings.cache() / "plans" / f"{key}.json"


def calibrate(
    config: RunConfig,
    base: Fetched,
    trials: Sequence[Trial],
    key: str,
    batch_size: int,
    progress: Any = None,
    stop: threading.Event | None = None,
) -> Calibration:
    """Run the trial with batches of at most `batch_size` rows, and cache the measurements.

    Raises UserError where memory ran out, a stop was requested, or the process failed, with the end of its log.
    """
    devices = devices_of(config.compute.device, 1)
    with _turn(devices[0], stop), _scratch() as folder:
        alone = all(map(is_free, devices))
        run = Run(folder)
        run.save(_shortened(config, batch_size))
        write_json(folder / "env.json", {"base": base.reference})
        orders = [_write_rows(folder, index, trial, run.config()) for index, trial in enumerate(trials)]
        write_json(folder / "order.json", {"stages": [order for order, _ in orders]})
        _wait(_start(folder, base.folder, devices), folder, sum(order["take"] for order, _ in orders), progress, stop)
        measured = read_json(folder / "result.json")
    stages = tuple(
        _pace({**result, "held": order["held"], "all": order["all"]}, order["take"], tokens)
        for result, (order, tokens) in zip(measured["stages"], orders, strict=True)
    )
    found = Calibration(measured["memory_gb"] * 1e9, batch_size, measured["startup"], stages, alone)
    if alone:
        write_json(_cache_file(key), {"format": FORMAT, **asdict(found)})
    return found


@contextmanager
def _turn(device: str, stop: threading.Event | None) -> Iterator[None]:
    """Allow one trial at a time on a device: two would distort each other's measurements."""
    folder = settings.cache() / "plans"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f".{device}", "a") as turn:
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if stop is not None and stop.is_set():
                raise UserError("models.stopped")
            time.sleep(1 / _LOOKS_A_SECOND)
        yield


@contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tunescope-plan-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _shortened(config: RunConfig, batch_size: int) -> RunConfig:
    """Return the config with every step logged, without evaluations and checkpoints in between, for one process."""
    watch = config.watch.model_copy(update={"log_every": 1, "evaluate_every": _NEVER, "checkpoint_every": _NEVER})
    stages = [stage.model_copy(update={"optim": _optim(config, stage, batch_size)}) for stage in config.stages]
    compute = config.compute.model_copy(update={"processes": 1, "sharding": "none"})
    return config.model_copy(update={"watch": watch, "stages": stages, "compute": compute})


def _optim(config: RunConfig, stage: Stage, batch_size: int) -> Any:
    optim = config.optim_of(stage)
    return optim.model_copy(
        update={
            "batch_size": min(optim.batch_size, batch_size),
            "gradient_accumulation": min(optim.gradient_accumulation, 2),
            "early_stopping": None,
            "keep_best": False,
        }
    )


def _write_rows(folder: Path, index: int, trial: Trial, config: RunConfig) -> tuple[dict[str, Any], list[list[int]]]:
    """Write a stage's rows for the process. Returns its order, and the padded tokens of each batch."""
    from finetune.training.batches import LengthGrouped

    optim = config.optim_of(config.stages[index])
    rows = _chosen(trial.rows.rows, optim.batch_size, optim.gradient_accumulation)
    held = sorted(trial.rows.held, key=lambda row: -row.length)[: 2 * optim.batch_size]
    (folder / f"stage-{index}").mkdir()
    written = write(folder / f"{index}-rows.arrow", iter(rows))
    measured = write(folder / f"{index}-held.arrow", iter(held))
    sides = len(rows[0].parts)
    order = LengthGrouped(written.lengths, optim.batch_size, config.seed)
    tokens = [len(batch) * sides * int(written.lengths[batch].max()) for batch in order.batches()]
    groups = [
        tokens[start : start + optim.gradient_accumulation]
        for start in range(0, len(tokens), optim.gradient_accumulation)
    ]
    held_tokens = _held_tokens(measured.lengths, optim.batch_size, sides)
    stage_order = {
        "steps": trial.shapes.steps,
        "take": min(len(groups), trial.shapes.steps),
        "prompts": trial.prompts,
        "held": held_tokens,
        "all": sum(tokens) + held_tokens,
    }
    return stage_order, groups


def _held_tokens(lengths: np.ndarray, size: int, sides: int) -> int:
    ordered = np.sort(lengths)[::-1]
    parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return sum(len(part) * sides * int(part[0]) for part in parts)


def _chosen(rows: Sequence[TokenRow], size: int, accumulation: int) -> list[TokenRow]:
    """Return the rows of the largest batch twice, and of smaller batches; several times where they are small, since a
    short step is measured less precisely."""
    ordered = sorted(rows, key=lambda row: -row.length)
    last = max(len(ordered) - size, 0)
    largest = sum(row.length * len(row.parts) for row in ordered[:size])
    often = max(1, min(4, _FEW_TOKENS // max(largest, 1)))
    starts = [0, *(round(last * share) for share in (0.0, 0.25, 0.5, 0.75) for _ in range(often))] * accumulation
    return [row for start in starts for row in ordered[start : start + size]]


def _start(folder: Path, base: Path, devices: list[str]) -> subprocess.Popen[bytes]:
    """Start the trial in its own session, so that all its processes can be ended with it."""
    command = [settings.python(), "-m", "finetune.plan.trial", str(folder), "--base", str(base)]
    with open(folder / "log.txt", "ab") as log:
        return subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            env=child_environment(devices),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait(
    process: subprocess.Popen[bytes], folder: Path, steps: int, progress: Any, stop: threading.Event | None
) -> None:
    """Wait for the process to end; kill it on a stop request, or when it uses up the memory."""
    try:
        while process.poll() is None:
            if stop is not None and stop.is_set():
                raise UserError("models.stopped")
            if progress is not None:
                done = sum(Run(path).progress().step for path in folder.glob("stage-*"))
                progress(Progress(say("plan.trying"), done, steps, "steps"))
            room = memory_of("cpu")
            if room.free < _LEFT * room.total:
                raise UserError("plan.trial_memory", free=f"{room.free / 1e9:.1f}", total=f"{room.total / 1e9:.1f}")
            time.sleep(1 / _LOOKS_A_SECOND)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        log = Run(folder).log_tail(3)
        raise UserError("plan.trial_failed", log=log[-400:] or say("run.log_empty"))


def _pace(result: dict[str, Any], take: int, groups: list[list[int]]) -> Pace:
    """Return a stage's pace, from the events of its trial."""
    events: list[Event] = result["events"]
    times = {kind: [event["t"] for event in events if event["type"] == kind] for kind in _KINDS}
    begin = times["stage"][0]
    measured = next(iter(times["eval"]), begin)
    ready = max([begin, *times["eval"], *(t for t in times["sample"] if t <= times["train"][0])])
    marks = [ready, *times["train"]]
    steps = [after - before for before, after in pairwise(marks)][:take]
    update = min(result["update"], min(steps) / 2)
    points = [
        (sum(group) / len(group), (seconds - update) / len(group))
        for group, seconds in zip(groups, steps, strict=False)
    ]
    later = merged(points[1:] or points)
    pace = Pace(later, update=update)
    expected = float(pace.batches(np.array([points[0][0]]))[0]) * len(groups[0]) + update
    return Pace(
        points=later,
        first=max(steps[0] - expected, 0.0),
        update=update,
        held=(measured - begin) / result["held"] if times["eval"] else 0.0,
        sample=ready - measured,
        reference=_reference(events, begin) / result["all"],
        checkpoint=max(times["checkpoint"][-1] - times["train"][-1], 0.0) if times["checkpoint"] else 0.0,
    )


def _reference(events: list[Event], begin: float) -> float:
    """Return the seconds in which a preference stage computed its reference log-probabilities."""
    first = next((event["t"] for event in events if event.get("phase") == "reference"), begin)
    return begin - first


_KINDS = ("stage", "eval", "sample", "train", "checkpoint")
