"""The events of a comparison while it runs, and its result: plain data, cheap to make and to pass between threads."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Finish = Literal["eos", "length", "stop", "cancelled", "error"]
BranchState = Literal["live", "finished", "pruned"]


@dataclass(frozen=True, slots=True)
class Alternative:
    """A likely token at a position: `probability` is the model's (temperature 1, before any processor), `after` the one
    after the column's processors (0: removed; None: the column has none)."""

    text: str
    token_id: int
    probability: float
    after: float | None = None


@dataclass(frozen=True, slots=True)
class TokenView:
    """A generated token and the distribution it was chosen from.

    `probability` is the model's own (temperature 1, before any processor), `rank` its rank among all tokens by that (1:
    the likeliest), `entropy` that of the model's distribution in nats. `after` is the probability it was drawn with and
    `kept` how many tokens the processors kept (both None if the column has none). `adds` is what a part of a character
    adds to the text: the whole character if it is the last part, else nothing.
    """

    text: str
    token_id: int
    probability: float
    rank: int
    entropy: float
    top: tuple[Alternative, ...]
    after: float | None = None
    kept: int | None = None
    adds: str | None = None


@dataclass(frozen=True, slots=True)
class Branch:
    """A hypothesis of a beam column at one step: `parent` is the index of the branch before it (None at the first
    step), `state` what became of it at that step."""

    step: int
    parent: int | None
    token_id: int
    text: str
    score: float
    state: BranchState


@dataclass(frozen=True)
class Trace:
    """What a column can show of its search besides its tokens.

    `chain` names the processors in the order of application, each with how many tokens it kept at the last step (None:
    it removes none). `widths` has the rows of each step of a column whose width changes, `fixed_width` those of one
    whose width does not; `given` counts the tokens that it was required to start with. `branches` is the beam tree and
    `best` the indices of those that lead to the result. `others` are the hypotheses of a beam column as (score, token
    ids), best first, or the best of each group; `other_texts` are their texts.
    """

    chain: tuple[tuple[str, int | None], ...] = ()
    widths: tuple[int, ...] = ()
    fixed_width: int = 1
    branches: tuple[Branch, ...] = ()
    best: tuple[int, ...] = ()
    others: tuple[tuple[float, tuple[int, ...]], ...] = ()
    other_texts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    given: int = 0

    @property
    def row_forwards(self) -> tuple[int, int] | None:
        """The row-forwards of a beam whose width changes, and those of a fixed one over as many steps; None for other
        columns."""
        return (
            (sum(self.widths), fixed_row_forwards(self.widths, self.fixed_width, self.given)) if self.widths else None
        )


def fixed_row_forwards(widths: Sequence[int], width: int, given: int) -> int:
    """Return the row-forwards of a beam of fixed `width` over as many steps: one at its first step and at each of the
    `given` tokens that it was required to start with."""
    narrow = min(1 + given, len(widths))
    return narrow + width * (len(widths) - narrow)


@dataclass(frozen=True)
class ColumnResult:
    """What one column generated. `token_ids` is without the prompt, with the end token if `finish` is "eos"."""

    name: str
    model: str
    token_ids: list[int]
    text: str
    finish: Finish
    metrics: dict[str, float | int | None]
    tokens: list[TokenView] = field(default_factory=list)
    error: str | None = None
    row_forwards: int = 0
    trace: Trace = field(default_factory=Trace)

    def to_json(self) -> dict[str, object]:
        shown = ("name", "model", "token_ids", "text", "finish", "metrics", "row_forwards")
        entry: dict[str, object] = {name: getattr(self, name) for name in shown}
        return entry if self.error is None else entry | {"error": self.error}


@dataclass(frozen=True)
class Result:
    """A whole comparison. `forwards` counts model calls, prefills included; `wall_s` runs from the first prefill to
    the last token, `origin` has what it came from (see `inference.compare.record`)."""

    model: str
    dtype: str
    prompt_tokens: int
    forwards: int
    wall_s: float
    load_s: float
    columns: list[ColumnResult]
    origin: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return the object that the shell prints."""
        shown = ("model", "dtype", "prompt_tokens", "forwards")
        times = {"wall_s": round(self.wall_s, 4), "load_s": round(self.load_s, 4)}
        columns = {"columns": [column.to_json() for column in self.columns]}
        return {name: getattr(self, name) for name in shown} | times | columns | self.origin


@dataclass(frozen=True)
class Loading:
    """A download or another long step: one sentence for people, with its progress if that is known."""

    text: str
    done: int = 0
    total: int = 0
    unit: str = ""


@dataclass(frozen=True)
class Started:
    """The prompt is encoded and the columns begin. `stand_in`: one of the models is the default model's stand-in, or an
    adapter on it. `short_of_memory`: the weights are not packed for this CPU, for lack of memory."""

    prompt_tokens: int
    names: list[str]
    models: list[str]
    model: str = ""
    forwards: int = 0
    stand_in: bool = False
    short_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One column advanced: `text_firm` and `tokens` are new and final, `text_draft` replaces the previous draft.

    A column that samples has no draft but the bytes of an unfinished character; beams may still change their draft.
    `rows` is how many rows it continues with, `saved` how many row-forwards it has saved so far against a beam of fixed
    width.
    """

    column: int
    text_firm: str
    text_draft: str
    tokens: list[TokenView]
    rows: int = 1
    saved: int = 0


@dataclass(frozen=True)
class Finished:
    """One column has finished."""

    column: int
    result: ColumnResult


@dataclass(frozen=True)
class Done:
    """All columns have finished."""

    result: Result


Event = Loading | Started | Step | Finished | Done


@dataclass
class ColumnState:
    """The state of one column according to the events so far."""

    name: str
    model: str
    firm: str = ""
    draft: str = ""
    tokens: list[TokenView] = field(default_factory=list)
    result: ColumnResult | None = None
    rows: int = 0
    saved: int = 0

    @property
    def text(self) -> str:
        return self.firm + self.draft if self.result is None else self.result.text


class Board:
    """Folds events into the current state of all columns, for a page that looks only now and then."""

    def __init__(self) -> None:
        self.columns: list[ColumnState] = []
        self.loading: Loading | None = None
        self.started: Started | None = None
        self.result: Result | None = None

    def take(self, event: Event) -> None:
        """Update the state with one event."""
        match event:
            case Loading():
                self.loading = event
            case Started():
                self.started, self.loading = event, None
                self.columns = [ColumnState(*names) for names in zip(event.names, event.models, strict=True)]
            case Step():
                column = self.columns[event.column]
                column.firm += event.text_firm
                column.draft, column.rows, column.saved = event.text_draft, event.rows, event.saved
                column.tokens += event.tokens
            case Finished():
                self._finish(self.columns[event.column], event.result)
            case Done():
                self.result = event.result
                for column, result in zip(self.columns, event.result.columns, strict=True):
                    self._finish(column, result)

    @staticmethod
    def _finish(column: ColumnState, result: ColumnResult) -> None:
        column.result, column.firm, column.draft, column.tokens = result, result.text, "", result.tokens

    def take_all(self, events: Iterable[Event]) -> "Board":
        for event in events:
            self.take(event)
        return self
