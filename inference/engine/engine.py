"""Many decoding strategies at once: the batch of each panel steps in turn, and all columns stream together.

    for event in compare([Panel(loaded, prompt_ids, [(0, parse_column("greedy"))])], seed=0, max_new_tokens=50):
        ...

In float32 a column generates what `model.generate` generates with the same settings after `torch.manual_seed(seed)`,
numerical ties aside. Which columns run beside it makes no difference.
"""

import logging
import math
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

from core.errors import UserError
from core.words import say
from inference.columns.base import Choice, Column, GeneratedToken
from inference.engine.batch import Batch, Panel
from inference.engine.detokenize import UNFINISHED, Detokenizer, Pieces, decode
from inference.engine.lookup_batch import LookupBatch
from inference.engine.prompts import prompt_ids
from inference.engine.stops import HeldBack, cut
from inference.events import Alternative, ColumnResult, Done, Event, Finished, Result, Started, Step, TokenView, Trace
from inference.measures.metrics import column_metrics
from inference.strategies.table import ColumnSpec

__all__ = ["Panel", "compare", "prompt_ids"]
log = logging.getLogger(__name__)


def compare(
    panels: list[Panel],
    *,
    seed: int,
    max_new_tokens: int,
    stop: threading.Event | None = None,
    exact: bool = False,
    load_s: float = 0.0,
) -> Iterator[Event]:
    """Run all columns of all panels and yield what happens.

    `stop` ends all columns within one step; they keep what is generated. A column that fails ends with "error"; the
    others continue. `exact` uses the model's plain linear layers instead of prepacked ones.
    """
    yield from _Comparison(panels, seed, max_new_tokens, exact).run(stop or threading.Event(), load_s)


class _ColumnEvents:
    """Turns what one column drains into events and, at the end, its result."""

    def __init__(self, index: int, spec: ColumnSpec, column: Column, panel: Panel, pieces: Pieces) -> None:
        self.index, self.spec, self.column = index, spec, column
        self._tokenizer = panel.loaded.tokenizer
        self._pieces = pieces
        self._text = Detokenizer(self._tokenizer)
        self._stops = spec.texts("stop")
        self._held = HeldBack(self._stops)
        self._views: list[TokenView] = []
        self.first_token_s: float | None = None
        self.error: str | None = None

    def step(self) -> Step:
        firm, draft = self.column.drain()
        pieces = [self._text.add([written.token_id]) for written in firm]
        views = [self._view(written, piece) for written, piece in zip(firm, pieces, strict=True)]
        self._views += views
        before = self._held.given
        added = self._held.add("".join(pieces))
        ahead = self._held.held + self._text.draft([written.token_id for written in draft])
        if self.column.finish is not None and self._stops:
            added, ahead = self._final_text([written.token_id for written in self.column.written()])[before:], ""
        return Step(self.index, added, ahead, views, len(self.column.tokens), self.column.saved)

    def _final_text(self, ids: list[int]) -> str:
        """Return the text of the result, without the stop text that ended it."""
        text = decode(self._tokenizer, ids)
        return text if self.column.finish != "stop" else cut(text, self._stops, decode(self._tokenizer, ids[:-1]))

    def _view(self, written: GeneratedToken, adds: str | None = None) -> TokenView:
        text, distribution, choice = self._pieces.text, written.distribution, written.choice
        after = [None] * len(distribution.top_ids) if choice is None else choice.after
        top = tuple(
            Alternative(text(token_id), token_id, math.exp(logprob), changed)
            for token_id, logprob, changed in zip(distribution.top_ids, distribution.top_logprobs, after, strict=True)
        )
        facts = (math.exp(written.logprob), written.rank, distribution.entropy, top, *_choice_facts(choice))
        own = text(written.token_id)
        return TokenView(own, written.token_id, *facts, adds if UNFINISHED in own else None)

    def result(self, tokens_per_s: float) -> ColumnResult:
        written = self.column.written()
        ids = [token.token_id for token in written]
        views = self._views + [self._view(token) for token in written[len(self._views) :]]
        metrics = column_metrics(ids, [token.logprob for token in written], self.first_token_s, tokens_per_s)
        finish = self.column.finish or "error"
        facts = (self.spec.name, self.spec.model, ids, self._final_text(ids), finish, metrics, views, self.error)
        return ColumnResult(*facts, self.column.row_forwards, self._trace())

    def _trace(self) -> Trace:
        trace = self.column.trace()
        texts = (self._pieces.text(branch.token_id) for branch in trace.branches)
        named = tuple(replace(branch, text=text) for branch, text in zip(trace.branches, texts, strict=True))
        others = tuple(decode(self._tokenizer, list(ids)) for _, ids in trace.others)
        given = min(len(self.column.start), self.column.length)
        notes = (*self.spec.notes, *trace.notes)
        return replace(trace, branches=named, other_texts=others, given=given, notes=notes)


def _choice_facts(choice: Choice | None) -> tuple[float | None, int | None]:
    return (None, None) if choice is None else (choice.own, choice.kept)


class _BatchRun:
    """One batch and its events."""

    def __init__(self, panel: Panel, seed: int, max_new_tokens: int, exact: bool) -> None:
        alone = panel.columns[0][1].kind == "lookup"
        self.batch = (LookupBatch if alone else Batch)(panel, seed, max_new_tokens, exact)
        pieces = Pieces(panel.loaded.tokenizer)
        columns = self.batch.columns
        self.events = {i: _ColumnEvents(i, spec, columns[i], panel, pieces) for i, spec in panel.columns}
        self.seconds = 0.0

    def step(self, started: float) -> Iterator[Event]:
        """Make one model call and yield the events of all running columns."""
        moving = list(self.batch.running)
        try:
            move = self.batch.advance if self.batch.forwards else self.batch.begin
            move(self._failed)
        except Exception as error:  # the call failed for all of its columns; other panels go on
            for index in moving:
                self.batch.columns[index].stop("error")
                self._failed(index, error)
        self.seconds = time.perf_counter() - started
        for index in moving:
            yield from self._column_events(self.events[index])
        if not self.batch.running:
            self.batch.close()

    def _failed(self, index: int, error: Exception) -> None:
        if isinstance(error, UserError):
            self.events[index].error = str(error)
            return
        number = uuid.uuid4().hex[:8]
        log.error("column %d failed (%s)", index, number, exc_info=error)
        self.events[index].error = say("decode.column_broke", id=number, kind=type(error).__name__)

    def _column_events(self, events: _ColumnEvents) -> Iterator[Event]:
        if events.column.length and events.first_token_s is None:
            events.first_token_s = self.seconds
        yield events.step()
        if events.column.finish is not None:
            yield Finished(events.index, events.result(self.tokens_per_s()))

    def cancel(self) -> Iterator[Event]:
        for index, column in self.batch.running.items():
            column.stop("cancelled")
            yield Finished(index, self.events[index].result(self.tokens_per_s()))
        self.batch.close()

    def tokens_per_s(self) -> float:
        """Return the number of tokens of the batch's columns divided by the seconds they took."""
        tokens = sum(len(column.written()) for column in self.batch.columns.values())
        return tokens / self.seconds if self.seconds else 0.0

    def results(self) -> dict[int, ColumnResult]:
        return {index: events.result(self.tokens_per_s()) for index, events in self.events.items()}


def _batches(panel: Panel, exact: bool) -> list[Panel]:
    """Return the batches of a panel: one for all columns that can share a forward pass, and one for each other column;
    with `exact`, one for each column."""
    apart = [column for column in panel.columns if exact or column[1].kind == "lookup"]
    together = [column for column in panel.columns if column not in apart]
    groups = [together, *([column] for column in apart)]
    return [replace(panel, columns=group) for group in groups if group]


class _Comparison:
    """All panels of a comparison."""

    def __init__(self, panels: list[Panel], seed: int, max_new_tokens: int, exact: bool) -> None:
        self._panels = panels
        batches = [batch for panel in panels for batch in _batches(panel, exact)]
        self._runs = [_BatchRun(batch, seed, max_new_tokens, exact) for batch in batches]
        self._specs = dict(sorted(column for panel in panels for column in panel.columns))

    def run(self, stop: threading.Event, load_s: float) -> Iterator[Event]:
        try:
            specs = self._specs.values()
            names, models = [spec.name for spec in specs], [spec.model for spec in specs]
            yield Started(len(self._panels[0].prompt_ids), names, models, self._panels[0].loaded.name)
            started = time.perf_counter()
            while running := [run for run in self._runs if run.batch.running]:
                for run in running:
                    yield from run.cancel() if stop.is_set() else run.step(started)
            yield Done(self._result(load_s))
        finally:
            for run in self._runs:
                run.batch.close()

    def _result(self, load_s: float) -> Result:
        loaded = self._panels[0].loaded
        columns = {index: result for run in self._runs for index, result in run.results().items()}
        ordered = [columns[index] for index in sorted(columns)]
        wall_s = max(run.seconds for run in self._runs)
        forwards = sum(run.batch.forwards for run in self._runs)
        prompt = len(self._panels[0].prompt_ids)
        return Result(loaded.name, loaded.dtype, prompt, forwards, wall_s, load_s, ordered)
