"""Comparisons and their check on a ZeroGPU Space, where there is a GPU only while a function of the `spaces` package
runs.

The page's process locates and downloads the models and waits for its turn; then `spaces` forks a process that has the
GPU for the requested time, and loads and runs there. What passes between the processes is pickled: the work goes there,
its events come back. Forked processes share no thread events, so a stop is signaled by a file. Anywhere else nothing of
this is used.
"""

import importlib
import math
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from core import settings, words
from core.errors import UserError
from inference.events import Event, Result

if TYPE_CHECKING:
    from inference.compare.replay import Verdict
    from inference.compare.work import PreparedComparison
    from inference.models.cache import Shelf
    from inference.strategies.table import ColumnSpec

SHORTEST, LONGEST = 15, 120
START_S, GIGABYTE_S, FORWARD_S, ROW_S = 8.0, 1.5, 0.04, 0.002
"""Seconds: to start a process with its GPU; to load a gigabyte of weights; per forward pass; per row in it."""
_LOOK_S = 0.02

Task = Callable[..., Generator[Any, None, None]]
_tasks: dict[str, Task] = {}


def prepare() -> None:
    """Import `spaces` on a ZeroGPU Space (it must come before torch) and wrap what needs the GPU, before the page is
    launched. What is imported by then exists in the forked process, and no import may be under way at a fork."""
    if not settings.zero_gpu() or _tasks:
        return
    spaces = importlib.import_module("spaces")
    for name in (
        "torch",
        "transformers",
        "peft",
        "inference.models.locate",
        "inference.engine.engine",
        "inference.compare.replay",
    ):
        importlib.import_module(name)
    _tasks["write"] = spaces.GPU(_run_on_gpu, duration=seconds)
    _tasks["check"] = spaces.GPU(_check_on_gpu, duration=check_seconds)


def ready() -> bool:
    """Return whether comparisons and checks run under `spaces.GPU` here."""
    return bool(_tasks)


def seconds(prepared: "PreparedComparison", *_: str) -> int:
    """Return the seconds of GPU time to request, at least 15: 8 s to begin and, for each model, 1.5 s per gigabyte of
    its weights, and for each token 0.04 s and 0.002 s per row (a column has one row, a beam search several). A column
    that does not share the forward passes needs 0.04 s per token for itself: prompt lookup, and with `exact` every
    column.

    Raises UserError for more than 120 s: shorter requests come first in the Space's queue.
    """
    needed = START_S + sum(_group_seconds(prepared, group) for group in prepared.groups)
    return _bounded(prepared, needed)


def check_seconds(prepared: "PreparedComparison", result: Result, indices: list[int], *_: str) -> int:
    """Return the same for the replay of some columns, one after another: a beam search may run to the limit, any other
    column generates about as many tokens as before."""
    groups = [group for group in prepared.groups if {index for index, _ in group.columns} & set(indices)]
    needed = START_S + sum(_weights_seconds(prepared, group) for group in groups)
    return _bounded(prepared, needed + sum(_replay_seconds(prepared, result, index) for index in indices))


def _bounded(prepared: "PreparedComparison", needed: float) -> int:
    if needed > LONGEST:
        raise UserError(
            "decode.zero_too_long", value=prepared.request.max_new_tokens, seconds=math.ceil(needed), most=LONGEST
        )
    return max(SHORTEST, math.ceil(needed))


def _group_seconds(prepared: "PreparedComparison", group: Any) -> float:
    specs: list[ColumnSpec] = [spec for _, spec in group.columns]
    apart = [[spec] for spec in specs if prepared.request.exact or spec.kind == "lookup"]
    together = [spec for spec in specs if [spec] not in apart]
    steps = sum(_step_seconds(part) for part in [*apart, together] if part)
    return _weights_seconds(prepared, group) + prepared.request.max_new_tokens * steps


def _step_seconds(specs: "list[ColumnSpec]") -> float:
    """Return the seconds of one forward pass for columns that share it."""
    return FORWARD_S + ROW_S * sum(spec.rows for spec in specs)


def _weights_seconds(prepared: "PreparedComparison", group: Any) -> float:
    from inference.models.fingerprint import parameters

    size = 4 if prepared.request.dtype == "float32" else 2
    return parameters(group.source.base.folder) * size / 1e9 * GIGABYTE_S


def _replay_seconds(prepared: "PreparedComparison", result: Result, index: int) -> float:
    spec = next(spec for group in prepared.groups for number, spec in group.columns if number == index)
    beams = spec.kind == "beam"
    return (prepared.request.max_new_tokens if beams else len(result.columns[index].token_ids)) * _step_seconds([spec])


def run_columns(prepared: "PreparedComparison", stop: threading.Event | None) -> Iterator[Event]:
    """Load and run where the GPU is, and yield the events as they come.

    Raises UserError as the plain way does, and gradio's own error if the visitor's share of the GPU is used up.
    """
    seconds(prepared)
    _import_models(prepared)
    yield from _run_task("write", stop, prepared)


def check(prepared: "PreparedComparison", result: Result, stop: threading.Event | None) -> Iterator["Verdict"]:
    """Replay the columns of a result where the GPU is, as many at a time as its time limit allows. Raises as
    `run_columns` does."""
    without_tokens = replace(result, columns=[replace(column, tokens=[]) for column in result.columns])
    parts = _parts(prepared, without_tokens)
    _import_models(prepared)
    for indices in parts:
        if stop is None or not stop.is_set():
            yield from _run_task("check", stop, prepared, without_tokens, indices)


def _parts(prepared: "PreparedComparison", result: Result) -> list[list[int]]:
    """Return the columns in their order, split so that each part fits the time limit of the GPU. Raises UserError if
    one column alone takes longer."""
    parts: list[list[int]] = []
    for index in range(len(result.columns)):
        if parts and _fits(prepared, result, [*parts[-1], index]):
            parts[-1].append(index)
        else:
            check_seconds(prepared, result, [index])
            parts.append([index])
    return parts


def _fits(prepared: "PreparedComparison", result: Result, indices: list[int]) -> bool:
    try:
        check_seconds(prepared, result, indices)
    except UserError:
        return False
    return True


def _run_task(task: str, stop: threading.Event | None, *order: Any) -> Iterator[Any]:
    """Yield the items of a task in the other process; a stop is passed on to it, and it ends with this iterator."""
    stop_requested, finished = stop or threading.Event(), threading.Event()
    with TemporaryDirectory() as folder:
        stop_file = Path(folder) / "stop"
        threading.Thread(target=_pass_on, args=(stop_requested, stop_file, finished), daemon=True).start()
        items = _tasks[task](*order, str(stop_file), words.current())
        try:
            for item in items:
                if isinstance(item, UserError):
                    raise item
                yield item
        finally:
            finished.set()
            stop_file.touch()
            items.close()


def _pass_on(stop_requested: threading.Event, stop_file: Path, finished: threading.Event) -> None:
    """Write the file that signals the other process to stop, once a stop is requested."""
    while not finished.wait(_LOOK_S):
        if stop_requested.is_set():
            with suppress(FileNotFoundError):
                stop_file.touch()
            return


def _import_models(prepared: "PreparedComparison") -> None:
    """Import the code of the models here: in the other process it would use up the visitor's share of the GPU."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    from inference.models.load_errors import in_words

    for group in prepared.groups:
        base = group.source.base
        with in_words("models.cannot_load", value=base.name):
            config = AutoConfig.from_pretrained(base.folder, local_files_only=True)
            MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)


class _StopFile:
    """Stands for the event that stops a comparison; set once a file exists."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def is_set(self) -> bool:
        return self._path.exists()


def _run_on_gpu(
    prepared: "PreparedComparison", stop_file: str, language: str
) -> Generator[Event | UserError, None, None]:
    """Run a comparison; called in the forked process."""
    from inference.compare.work import run_columns as run_here

    yield from _in_child(run_here(prepared, _shelf(), _StopFile(stop_file)), language)  # type: ignore[arg-type]


def _check_on_gpu(
    prepared: "PreparedComparison", result: Result, indices: list[int], stop_file: str, language: str
) -> Generator["Verdict | UserError", None, None]:
    """Replay some columns; called in the forked process."""
    from inference.compare.replay import check_columns

    yield from _in_child(check_columns(prepared, result, indices, _shelf(), _StopFile(stop_file)), language)  # type: ignore[arg-type]


def _in_child(items: Iterator[Any], language: str) -> Iterator[Any]:
    """Yield the items made in the forked process. A UserError is returned as a value: of an exception raised there,
    only the name of its class would arrive."""
    import torch

    words.speak(language)
    torch.set_num_threads(1)  # OpenMP's threads do not come along when a process is forked
    try:
        yield from items
    except UserError as error:
        yield error


@cache
def _shelf() -> "Shelf":
    """Return the forked process's own models; it serves several comparisons while it has the GPU."""
    from inference.models.cache import Shelf

    return Shelf()
