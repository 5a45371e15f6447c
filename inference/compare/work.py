"""A comparison whose files are there: its columns grouped by model, loaded and run in this process."""

import contextvars
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from core.errors import UserError
from core.workspace import Owner
from inference.compare.column_fit import check_column
from inference.compare.request import CompareRequest, check_request
from inference.engine.prompts import check_context
from inference.events import Done, Event, Loading, Started
from inference.models.types import Progress, Report, Source
from inference.strategies.table import ColumnSpec

if TYPE_CHECKING:
    from inference.engine.batch import Panel
    from inference.models.cache import Shelf
    from inference.models.loading import Loaded

T = TypeVar("T")
_MEMORY_SHARE = 0.8


@dataclass(frozen=True)
class PreparedComparison:
    """A comparison whose files are all there: what is left is to load and to write. `began` is in
    `time.perf_counter` seconds. It can be pickled."""

    request: CompareRequest
    groups: list["ColumnGroup"]
    began: float


def run_columns(prepared: PreparedComparison, shelf: "Shelf", stop: threading.Event | None) -> Iterator[Event]:
    """Load the models and run all columns in this process."""
    request = prepared.request
    panels = yield from with_progress(lambda report: _load(request, prepared.groups, shelf))
    from inference.compare.record import origin_of
    from inference.engine.engine import compare
    from inference.engine.prepacked import lacks_memory

    load_s = time.perf_counter() - prepared.began
    length, exact = request.max_new_tokens, request.exact
    events = compare(panels, seed=request.seed, max_new_tokens=length, stop=stop, exact=exact, load_s=load_s)
    started = next(events)
    assert isinstance(started, Started), "a comparison begins with its start"
    stand_in = any(group.source.base.stand_in for group in prepared.groups)
    short = not exact and any(lacks_memory(panel.loaded.model) for panel in panels)
    yield replace(started, stand_in=stand_in, short_of_memory=short)
    for event in events:
        yield Done(replace(event.result, origin=origin_of(request, panels))) if isinstance(event, Done) else event


def prepare_comparison(
    request: CompareRequest, owner: Owner, stop: threading.Event | None = None
) -> PreparedComparison:
    """Return a request with all its files located. Raises UserError as `run_comparison` does."""
    specs = check_request(request)
    return PreparedComparison(request, locate_models(request, specs, owner, lambda _: None, stop), time.perf_counter())


def load_panels(prepared: PreparedComparison, shelf: "Shelf") -> list["Panel"]:
    """Return the loaded models with their columns, as they are run. Raises UserError as `run_comparison` does."""
    return _load(prepared.request, prepared.groups, shelf)


def with_progress(work: Callable[[Report], T]) -> Generator[Loading, None, T]:
    """Run `work` in a thread, yield its progress as events and return its result."""
    reports: SimpleQueue[Progress | None] = SimpleQueue()
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(context.run, work, reports.put)
        future.add_done_callback(lambda _: reports.put(None))
        while (progress := reports.get()) is not None:
            yield Loading(progress.text, progress.done, progress.total, progress.unit)
        return future.result()


@dataclass
class ColumnGroup:
    """Columns that can run in one batch; `plain` are those that run without the source's adapter."""

    source: Source
    columns: list[tuple[int, ColumnSpec]] = field(default_factory=list)
    plain: set[int] = field(default_factory=set)

    def add(self, index: int, spec: ColumnSpec, plain: bool) -> None:
        self.columns.append((index, spec))
        if plain:
            self.plain.add(index)


def locate_models(
    request: CompareRequest, specs: list[ColumnSpec], owner: Owner, report: Report, stop: threading.Event | None
) -> list[ColumnGroup]:
    """Find the model of every column. The first group is that of the comparison's own model, if a column runs on it."""
    from inference.models.locate import locate

    own = locate(request.model, owner, adapter=request.adapter, progress=report, stop=stop)
    found: dict[str, Source] = {"base": Source(own.base)}
    if own.adapter is not None:
        found["tuned"] = own
    placed = [_with_model(spec, own) for spec in specs]
    for spec in placed:
        if spec.model not in found:
            found[spec.model] = _column_source(spec, owner, report, stop)
    return _grouped([(spec, found[spec.model]) for spec in placed], own)


def _with_model(spec: ColumnSpec, own: Source) -> ColumnSpec:
    if spec.model == "tuned" and own.adapter is None:
        raise UserError("decode.tuned_without_adapter", value=spec.name)
    model = spec.model or ("tuned" if own.adapter is not None else "base")
    return ColumnSpec(spec.name, spec.strategy, spec.knobs, model)


def _column_source(spec: ColumnSpec, owner: Owner, report: Report, stop: threading.Event | None) -> Source:
    from inference.models.locate import locate

    try:
        return locate(spec.model, owner, progress=report, stop=stop)
    except UserError as error:
        if error.code == "models.stopped":
            raise
        raise UserError("decode.column_model", column=spec.name, reason=str(error)) from error


def _grouped(placed: list[tuple[ColumnSpec, Source]], own: Source) -> list[ColumnGroup]:
    """Group the columns by source; those of a bare base join a tuned group if one batch can compute both exactly."""
    from inference.models.adapters import mixable

    groups: dict[tuple[object, ...], ColumnGroup] = {}
    used = [source for _, source in placed]
    mixed = [source for source in (*reversed(used), *(s for s in used if s is own)) if mixable(source)]
    hosts = {_key(Source(source.base)): source for source in mixed}
    for index, (spec, source) in enumerate(placed):
        host = hosts.get(_key(source), source)
        group = groups.setdefault(_key(host), ColumnGroup(host))
        group.add(index, spec, plain=host.adapter is not None and source.adapter is None)
    return list(groups.values())


def _key(source: Source) -> tuple[object, ...]:
    return source.base.folder, source.adapter.folder if source.adapter else None


def _load(request: CompareRequest, groups: list[ColumnGroup], shelf: "Shelf") -> list["Panel"]:
    """Load each group's model, as it will run, and check that prompt and rows fit."""
    from inference.compare.column_fit import with_start_ids
    from inference.engine.batch import Panel, pack_weights
    from inference.engine.engine import prompt_ids
    from inference.models.adapters import mixable

    panels = []
    for group in groups:
        loaded = shelf.get(group.source, request.dtype)
        size = loaded.model.config.get_text_config().vocab_size
        columns = [(index, with_start_ids(spec, loaded.tokenizer, size)) for index, spec in group.columns]
        for index, spec in columns:
            tuned = mixable(group.source) and spec.model != "base" and index not in group.plain
            check_column(spec, loaded, tuned, request.max_new_tokens)
        if not request.exact:
            pack_weights(loaded)
        prompt = request.messages if request.prompt is None else request.prompt
        assert prompt is not None
        ids = prompt_ids(loaded.tokenizer, prompt, request.raw)
        check_context(len(ids), request.max_new_tokens, loaded.context_length)
        panels.append(Panel(loaded, ids, columns, frozenset(group.plain)))
    _check_memory(panels, request.max_new_tokens)
    return panels


def _check_memory(panels: list["Panel"], max_new_tokens: int) -> None:
    """Raise UserError if the caches of all rows would not fit in the free memory."""
    from inference.models.hub_files import megabytes
    from inference.models.loading import free_memory

    rows = [sum(spec.rows for _, spec in panel.columns) for panel in panels]
    lengths = [len(panel.prompt_ids) + max_new_tokens for panel in panels]
    needed = sum(row_bytes(p.loaded, length) * count for p, length, count in zip(panels, lengths, rows, strict=True))
    free = free_memory(panels[0].loaded.device)
    if needed > _MEMORY_SHARE * free:
        facts = {"needed": megabytes(needed), "free": megabytes(free), "rows": sum(rows), "tokens": max(lengths)}
        raise UserError("decode.memory", **facts)


def row_bytes(loaded: "Loaded", tokens: int) -> int:
    """Return the bytes of one row's keys and values for `tokens` tokens, and of its scores while it chooses."""
    from inference.engine.batch import plain_model

    config = plain_model(loaded.model).config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = 4 if loaded.dtype == "float32" else 2
    return 2 * config.num_hidden_layers * heads * head * size * tokens + 16 * config.vocab_size
