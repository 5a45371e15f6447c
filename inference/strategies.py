"""The one table of decoding strategies, and how a person's line such as `beam num_beams=4` becomes a column.

A strategy is data: its key, the kind of column it runs in, its knobs with default and bounds. Nothing heavy is imported
here, so the page draws its cards and the shell refuses a typing error at once.
"""

import difflib
import math
from dataclasses import dataclass, field
from typing import Literal

from core.errors import UserError
from inference.fields import check_whole

Value = int | float | bool | str
Kind = Literal["greedy", "sample", "beam"]

MAX_COLUMNS = 12
MAX_NEW_TOKENS = 8192
MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class Knob:
    """One setting of a strategy. `choices` stands in for bounds where the value is one of a few words."""

    name: str
    type: Literal["int", "float", "choice"]
    default: Value
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()

    @property
    def help_key(self) -> str:
        return f"decode.knob.{self.name}"

    def read(self, strategy: str, text: str) -> Value:
        """The value behind `text`; raises UserError that names the knob, the value and what is possible."""
        if self.type == "choice":
            return self._choice(strategy, text)
        try:
            value = int(text) if self.type == "int" else float(text)
        except ValueError:
            code = "decode.knob_not_a_whole_number" if self.type == "int" else "decode.knob_not_a_number"
            raise UserError(code, **self._facts(strategy, text)) from None
        if not math.isfinite(value) or not self.minimum <= value <= self.maximum:
            raise UserError("decode.knob_range", **self._facts(strategy, text))
        return value

    def _choice(self, strategy: str, text: str) -> Value:
        if text.lower() not in self.choices:
            raise UserError("decode.knob_choice", **self._facts(strategy, text))
        return {"true": True, "false": False}.get(text.lower(), text.lower())

    def _facts(self, strategy: str, text: str) -> dict[str, object]:
        facts = {"strategy": strategy, "knob": self.name, "value": text[:40], "choices": ", ".join(self.choices)}
        return facts | {"minimum": f"{self.minimum:g}", "maximum": f"{self.maximum:g}", "default": self.default}


@dataclass(frozen=True)
class Strategy:
    """A way to choose the next token: `kind` says which column runs it, `knobs` what can be set."""

    key: str
    kind: Kind
    knobs: tuple[Knob, ...] = ()

    @property
    def title_key(self) -> str:
        return f"decode.strategy.{self.key}"

    @property
    def help_key(self) -> str:
        return f"decode.about.{self.key}"

    def knob(self, name: str) -> Knob | None:
        return next((knob for knob in self.knobs if knob.name == name), None)


_TEMPERATURE = Knob("temperature", "float", 1.0, 0.01, 10.0)
_TABLE = (
    Strategy("greedy", "greedy"),
    Strategy(
        "beam",
        "beam",
        (
            Knob("num_beams", "int", 4, 2, 16),
            Knob("length_penalty", "float", 1.0, -4.0, 4.0),
            Knob("early_stopping", "choice", False, choices=("false", "true", "never")),
        ),
    ),
    Strategy("sample", "sample", (_TEMPERATURE,)),
    Strategy("top_k", "sample", (Knob("top_k", "int", 50, 1, 1000), _TEMPERATURE)),
    Strategy("nucleus", "sample", (Knob("top_p", "float", 0.9, 0.01, 1.0), _TEMPERATURE)),
    Strategy("min_p", "sample", (Knob("min_p", "float", 0.1, 0.0, 1.0), _TEMPERATURE)),
    Strategy("typical", "sample", (Knob("typical_p", "float", 0.9, 0.01, 1.0), _TEMPERATURE)),
)
STRATEGIES: dict[str, Strategy] = {strategy.key: strategy for strategy in _TABLE}


@dataclass(frozen=True)
class ColumnSpec:
    """One column of a comparison.

    `name` is the line as it was given; `knobs` holds every knob of the strategy; `model` is "tuned", "base", a
    reference as typed or, where none was given, empty: then the comparison's own model, with its adapter if it has one.
    """

    name: str
    strategy: str
    knobs: dict[str, Value] = field(default_factory=dict)
    model: str = ""

    @property
    def kind(self) -> Kind:
        return STRATEGIES[self.strategy].kind

    @property
    def rows(self) -> int:
        """How many rows of the batch the column takes."""
        return int(self.knobs["num_beams"]) if self.kind == "beam" else 1


def parse_column(text: str) -> ColumnSpec:
    """Read a line such as `nucleus top_p=0.9 temperature=0.8 model=base`.

    Raises UserError for an unknown strategy or knob, a value that is no number or out of range, a knob given twice.
    """
    words = text.split()
    if not words:
        raise UserError("decode.column_empty", known=", ".join(STRATEGIES))
    strategy = STRATEGIES.get(words[0])
    if strategy is None:
        raise UserError("decode.strategy_unknown", value=words[0][:40], near=_near(words[0], list(STRATEGIES)))
    given = _pairs(strategy, words[1:])
    model = given.pop("model", "")
    knobs: dict[str, Value] = {knob.name: knob.default for knob in strategy.knobs}
    for name, value in given.items():
        knob = strategy.knob(name)
        if knob is None:
            raise _unknown_knob(strategy, name)
        knobs[name] = knob.read(strategy.key, value)
    return ColumnSpec(text, strategy.key, knobs, model)


def _pairs(strategy: Strategy, words: list[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals or not value:
            raise UserError("decode.knob_form", strategy=strategy.key, value=word[:40])
        if name in given:
            raise UserError("decode.knob_twice", strategy=strategy.key, knob=name[:40], value=value[:40])
        given[name] = value
    return given


def _unknown_knob(strategy: Strategy, name: str) -> UserError:
    known = [*(knob.name for knob in strategy.knobs), "model"]
    return UserError("decode.knob_unknown", strategy=strategy.key, knob=name[:40], near=_near(name, known))


def _near(word: str, known: list[str]) -> str:
    """The known words, the likeliest one first where one is near."""
    near = difflib.get_close_matches(word, known, 1, 0.6)
    return ", ".join([*near, *(name for name in known if name not in near)])


def parse_columns(lines: list[str]) -> list[ColumnSpec]:
    """Read 1 to 12 columns. Raises UserError for another number of them and for each wrong line."""
    if not 1 <= len(lines) <= MAX_COLUMNS:
        raise UserError("decode.columns_number", value=len(lines), maximum=MAX_COLUMNS)
    return [parse_column(line) for line in lines]


def check_run(seed: int, max_new_tokens: int) -> None:
    """Raises UserError unless the seed and the number of new tokens are integers within their ranges."""
    check_whole("seed", seed, 0, MAX_SEED)
    check_whole("max_new_tokens", max_new_tokens, 1, MAX_NEW_TOKENS)
