"""The event file of a run: one JSON object per line, appended by one writer, read by any process from a byte offset."""

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Event = dict[str, Any]
ENDINGS = ("stopped", "failed", "done")


class EventLog:
    """Writes the event file. There is one writer at a time: the holder of the run's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, type: str, **facts: Any) -> Event:
        """Append one event `{"t", "type", ...}` in a single write; an incomplete line of a killed writer is ended
        first."""
        event = {"t": round(time.time(), 3), "type": type, **facts}
        line = json.dumps(event, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with open(self.path, "ab+") as file:
            if file.tell() and not _ends_with_newline(file.fileno(), file.tell()):
                line = b"\n" + line
            file.write(line)
        return event


def _ends_with_newline(descriptor: int, size: int) -> bool:
    return os.pread(descriptor, 1, size - 1) == b"\n"


def read_events(path: Path, after: int = 0) -> tuple[list[Event], int]:
    """Return the complete lines after byte `after`, and the byte offset for the next call.

    A last line without newline is left for the next call; a line that is not JSON (of a killed writer) is skipped.
    """
    try:
        with open(path, "rb") as file:
            file.seek(after)
            data = file.read()
    except FileNotFoundError:
        return [], after
    whole = data[: data.rfind(b"\n") + 1]
    return [event for line in whole.splitlines() if (event := _event(line))], after + len(whole)


def _event(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "type" in event else None


@dataclass
class RunProgress:
    """The state of a run after all its events. `ending` is the last event of the current attempt: stopped, failed, done
    or None.

    `train`, `evals` and `samples` are keyed by step, so that of a step written twice the later event counts. A later
    stage's evaluation before its first step is in `begins`, by stage, since it has the step number of the earlier
    stage's last step. `stage` is the event of the current stage, `done` that of the end; `over` and `early`, by stage,
    are those of a stage's end and of an early stop, `seconds` the time spent on each stage in all attempts. `kept` is
    the step whose checkpoint was made the result.
    """

    attempt: int = 0
    begun: bool = False
    ending: str | None = None
    error: str | None = None
    step: int = 0
    steps: int | None = None
    tokens_per_s: float | None = None
    started: Event | None = None
    phase: Event | None = None
    train: dict[int, Event] = field(default_factory=dict)
    evals: dict[int, Event] = field(default_factory=dict)
    samples: dict[int, list[Event]] = field(default_factory=dict)
    begins: dict[int, Event] = field(default_factory=dict)
    stage: Event | None = None
    over: dict[int, Event] = field(default_factory=dict)
    early: dict[int, Event] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    kept: int | None = None
    clock: tuple[int, float] | None = None
    done: Event | None = None

    @property
    def at_stage(self) -> int:
        """The number of the current stage, from 0."""
        return self.stage["stage"] if self.stage else 0

    @property
    def loss(self) -> float | None:
        """The loss of the last step that was logged."""
        return self.train[max(self.train)]["loss"] if self.train else None

    @property
    def eval_loss(self) -> float | None:
        """The last validation loss."""
        return self.evals[max(self.evals)]["eval_loss"] if self.evals else None


def fold(events: Iterable[Event], before: RunProgress | None = None) -> RunProgress:
    """Add events to a Progress (a given one is changed and returned). Unknown types are skipped."""
    progress = before or RunProgress()
    for event in events:
        progress.begun = event["type"] != "queued"
        _count_time(progress, event)
        add = _FOLDS.get(event["type"])
        if add:
            add(progress, event)
    return progress


def _count_time(progress: RunProgress, event: Event) -> None:
    """Add the time since the previous event to the current stage; time between attempts does not count."""
    now, kind = event.get("t"), event["type"]
    stage = progress.clock[0] if progress.clock else None
    if not isinstance(now, int | float):
        return
    if progress.clock is not None and kind != "queued":
        number, before = progress.clock
        progress.seconds[number] = progress.seconds.get(number, 0.0) + max(0.0, now - before)
    if kind == "stage":
        stage = event["stage"]
    elif kind in ("queued", "stage_done", *ENDINGS):
        stage = None
    progress.clock = None if stage is None else (stage, now)


def _queued(progress: RunProgress, event: Event) -> None:
    progress.attempt += 1
    progress.ending = progress.error = progress.phase = progress.kept = None


def _started(progress: RunProgress, event: Event) -> None:
    """Start or resume at a step; discard what an earlier attempt wrote after that step."""
    progress.started, progress.step, progress.steps = event, event["step"], event["steps"]
    _forget(progress, event["step"])


def _forget(progress: RunProgress, after: int) -> None:
    """Discard what was written after a step."""
    for table in (progress.train, progress.evals, progress.samples):
        for step in [step for step in table if step > after]:
            del table[step]
    for found in (progress.begins, progress.over, progress.early):
        for stage in [stage for stage, event in found.items() if event["step"] > after]:
            del found[stage]


def _progress(progress: RunProgress, event: Event) -> None:
    progress.phase = event


def _train(progress: RunProgress, event: Event) -> None:
    progress.train[event["step"]] = event
    progress.step, progress.tokens_per_s, progress.phase = event["step"], event["tokens_per_s"], None


def _stage(progress: RunProgress, event: Event) -> None:
    progress.stage = event


def _stage_done(progress: RunProgress, event: Event) -> None:
    progress.over[event["stage"]] = event


def _early(progress: RunProgress, event: Event) -> None:
    progress.early[event["stage"]] = event


def _eval(progress: RunProgress, event: Event) -> None:
    if event.get("begin"):
        progress.begins[event["stage"]] = event
        return
    progress.evals[event["step"]] = event
    progress.samples.pop(event["step"], None)


def _sample(progress: RunProgress, event: Event) -> None:
    progress.samples.setdefault(event["step"], []).append(event)


def _ending(progress: RunProgress, event: Event) -> None:
    progress.ending, progress.error, progress.phase = event["type"], event.get("error"), None
    progress.tokens_per_s = event.get("tokens_per_s") or progress.tokens_per_s
    progress.done = event if event["type"] == "done" else None
    if event.get("kept") is not None:
        progress.kept = progress.step = event["kept"]
        _forget(progress, event["kept"])


_FOLDS: dict[str, Callable[[RunProgress, Event], None]] = {
    "queued": _queued,
    "started": _started,
    "progress": _progress,
    "train": _train,
    "stage": _stage,
    "stage_done": _stage_done,
    "early": _early,
    "eval": _eval,
    "sample": _sample,
    "stopped": _ending,
    "failed": _ending,
    "done": _ending,
}
