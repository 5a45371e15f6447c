"""Compare on a ZeroGPU Space, where there is a GPU only while a function of the `spaces` package runs.

The page's process looks, fetches and waits for its turn; then `spaces` forks a process that has the GPU for the time
asked for, and loads and writes there. What crosses over is pickled: the work there, its events back. Forked processes
share no thread's events, so a stop is told by a file. Anywhere else nothing of this is used.
"""

import importlib
import math
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from core import settings, words
from core.errors import UserError
from inference.results import Event

if TYPE_CHECKING:
    from inference.service import Work
    from inference.shelf import Shelf

SHORTEST, LONGEST = 15, 120
START_S, GIGABYTE_S, FORWARD_S, ROW_S = 8.0, 1.5, 0.04, 0.002
"""Seconds: a fresh process with its GPU; a gigabyte of weights onto it; one forward; each row in it."""
_LOOK_S = 0.02

Task = Callable[["Work", str, str], Generator[Event | UserError, None, None]]
_tasks: list[Task] = []


def prepare() -> None:
    """On a ZeroGPU Space: import `spaces` (it must come before torch) and wrap what needs the GPU, before the page is
    launched. What is imported by now is there in the forked process, and no import can be under way at a fork."""
    if not settings.zero_gpu() or _tasks:
        return
    spaces = importlib.import_module("spaces")
    for name in ("torch", "transformers", "peft", "inference.models", "inference.engine"):
        importlib.import_module(name)
    _tasks.append(spaces.GPU(_on_gpu, duration=seconds))


def ready() -> bool:
    """Whether comparisons run under `spaces.GPU` here."""
    return bool(_tasks)


def seconds(work: "Work", *_: str) -> int:
    """How long the GPU is asked for, from 15 s on: 8 s to begin and, for each model, 1.5 s a gigabyte of its weights
    and for each token 0.04 s and 0.002 s a row (a column has one row, a beam search several).

    Raises UserError for more than 120 s: shorter requests come first in the Space's queue.
    """
    needed = START_S + sum(_group_seconds(work, group) for group in work.groups)
    if needed > LONGEST:
        raise UserError(
            "decode.zero_too_long", value=work.request.max_new_tokens, seconds=math.ceil(needed), most=LONGEST
        )
    return max(SHORTEST, math.ceil(needed))


def _group_seconds(work: "Work", group: Any) -> float:
    from inference.fingerprint import parameters

    size = 4 if work.request.dtype == "float32" else 2
    rows = sum(spec.rows for _, spec in group.columns)
    gigabytes = parameters(group.source.base.folder) * size / 1e9
    return gigabytes * GIGABYTE_S + work.request.max_new_tokens * (FORWARD_S + ROW_S * rows)


def write(work: "Work", stop: threading.Event | None) -> Iterator[Event]:
    """Load and write where the GPU is; its events, as they come.

    Raises UserError as the plain way does, and gradio's own error where the visitor's share of the GPU is used up.
    """
    seconds(work)
    _import_models(work)
    asked, over = stop or threading.Event(), threading.Event()
    with TemporaryDirectory() as folder:
        note = Path(folder) / "stop"
        threading.Thread(target=_pass_on, args=(asked, note, over), daemon=True).start()
        events = _tasks[0](work, str(note), words.current())
        try:
            for event in events:
                if isinstance(event, UserError):
                    raise event
                yield event
        finally:
            over.set()
            note.touch()
            events.close()


def _pass_on(asked: threading.Event, note: Path, over: threading.Event) -> None:
    """Write the note for the other process when somebody asks to stop."""
    while not over.wait(_LOOK_S):
        if asked.is_set():
            with suppress(FileNotFoundError):
                note.touch()
            return


def _import_models(work: "Work") -> None:
    """Import the code of the models here: in the other process it would cost the visitor's share of the GPU."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    from inference.failures import in_words

    for group in work.groups:
        base = group.source.base
        with in_words("models.cannot_load", value=base.name):
            config = AutoConfig.from_pretrained(base.folder, local_files_only=True)
            MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)


class _Note:
    """Stands for the event that stops a comparison."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def is_set(self) -> bool:
        return self._path.exists()


def _on_gpu(work: "Work", note: str, language: str) -> Generator[Event | UserError, None, None]:
    """Runs in the forked process. A person's mistake comes back as a value: of what is raised there, only the name of
    its class would."""
    import torch

    from inference.service import write as write_plainly

    words.speak(language)
    torch.set_num_threads(1)  # OpenMP's threads do not come along when a process is forked
    try:
        yield from write_plainly(work, _shelf(), _Note(note))  # type: ignore[arg-type]
    except UserError as error:
        yield error


@cache
def _shelf() -> "Shelf":
    """The forked process's own models; it serves several comparisons while it has the GPU."""
    from inference.shelf import Shelf

    return Shelf()
