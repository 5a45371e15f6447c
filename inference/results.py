"""What a comparison tells while it runs and when it is done: plain data, cheap to make and to pass between threads."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Finish = Literal["eos", "length", "stop", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class TokenView:
    """One written token: its raw probability (temperature 1, before any filter) and the five likeliest there."""

    text: str
    token_id: int
    probability: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ColumnResult:
    """What one column wrote. `token_ids` is without the prompt, with the end token where `finish` is "eos"."""

    name: str
    model: str
    token_ids: list[int]
    text: str
    finish: Finish
    metrics: dict[str, float | int | None]
    tokens: list[TokenView] = field(default_factory=list)
    error: str | None = None

    def to_json(self) -> dict[str, object]:
        shown = ("name", "model", "token_ids", "text", "finish", "metrics")
        entry: dict[str, object] = {name: getattr(self, name) for name in shown}
        return entry if self.error is None else entry | {"error": self.error}


@dataclass(frozen=True)
class Result:
    """A whole comparison. `forwards` counts model calls, prefills included; `wall_s` runs from the first prefill to
    the last token."""

    model: str
    dtype: str
    prompt_tokens: int
    forwards: int
    wall_s: float
    load_s: float
    columns: list[ColumnResult]

    def to_json(self) -> dict[str, object]:
        """The object that the shell prints."""
        shown = ("model", "dtype", "prompt_tokens", "forwards")
        times = {"wall_s": round(self.wall_s, 4), "load_s": round(self.load_s, 4)}
        return {name: getattr(self, name) for name in shown} | times | {"columns": [c.to_json() for c in self.columns]}


@dataclass(frozen=True)
class Loading:
    """Something is fetched or loaded: one line for people, with how far it is where that is known."""

    text: str
    done: int = 0
    total: int = 0
    unit: str = ""


@dataclass(frozen=True)
class Started:
    """The prompt is encoded and the columns begin. `stand_in`: one of the models is the default model's stand-in, or
    an adapter on it."""

    prompt_tokens: int
    names: list[str]
    models: list[str]
    model: str = ""
    forwards: int = 0
    stand_in: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One column went on: `text_firm` and `tokens` are new and stay, `text_draft` replaces the draft before it.

    A column that samples has no draft but the bytes of an unfinished character; beams may still change their draft.
    """

    column: int
    text_firm: str
    text_draft: str
    tokens: list[TokenView]


@dataclass(frozen=True)
class Finished:
    """One column is done."""

    column: int
    result: ColumnResult


@dataclass(frozen=True)
class Done:
    """All columns are done."""

    result: Result


Event = Loading | Started | Step | Finished | Done


@dataclass
class Live:
    """The state of one column as far as the events told."""

    name: str
    model: str
    firm: str = ""
    draft: str = ""
    tokens: list[TokenView] = field(default_factory=list)
    result: ColumnResult | None = None

    @property
    def text(self) -> str:
        return self.firm + self.draft if self.result is None else self.result.text


class Board:
    """Folds events into the current state of all columns, for a page that looks only now and then."""

    def __init__(self) -> None:
        self.columns: list[Live] = []
        self.loading: Loading | None = None
        self.started: Started | None = None
        self.result: Result | None = None

    def take(self, event: Event) -> None:
        """Fold one event in."""
        match event:
            case Loading():
                self.loading = event
            case Started():
                self.started, self.loading = event, None
                self.columns = [Live(*names) for names in zip(event.names, event.models, strict=True)]
            case Step():
                column = self.columns[event.column]
                column.firm += event.text_firm
                column.draft = event.text_draft
                column.tokens += event.tokens
            case Finished():
                self._finish(self.columns[event.column], event.result)
            case Done():
                self.result = event.result
                for column, result in zip(self.columns, event.result.columns, strict=True):
                    self._finish(column, result)

    @staticmethod
    def _finish(column: Live, result: ColumnResult) -> None:
        column.result, column.firm, column.draft, column.tokens = result, result.text, "", result.tokens

    def take_all(self, events: Iterable[Event]) -> "Board":
        for event in events:
            self.take(event)
        return self
