"""The table of decoding strategies, and how a line such as `beam num_beams=4` becomes a column.

A strategy is data: its key, the kind of column it runs in, its knobs with default and bounds, its source. Nothing heavy
is imported here, so the page draws its cards and the shell refuses a typing error at once.
"""

import difflib
from dataclasses import dataclass, field, replace
from typing import Literal

from core.errors import UserError
from inference.strategies.knobs import Knob, Value, check_whole, ids_of, pieces_of
from inference.strategies.syntax import split_line

Kind = Literal["greedy", "sample", "beam", "diverse_beam", "dynamic_beam", "contrastive", "contrast", "dola", "lookup"]

MAX_COLUMNS = 12
MAX_NEW_TOKENS = 8192
MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class Strategy:
    """A way to choose the next token: `kind` says which column class runs it, `knobs` are its own, `more` are the
    others that it takes, `source` is where it was first described."""

    key: str
    kind: Kind
    knobs: tuple[Knob, ...] = ()
    source: str = ""
    more: tuple[Knob, ...] = ()

    @property
    def title_key(self) -> str:
        return f"decode.strategy.{self.key}"

    @property
    def help_key(self) -> str:
        return f"decode.about.{self.key}"

    def knob(self, name: str) -> Knob | None:
        return next((knob for knob in (*self.knobs, *self.more) if knob.name == name), None)


_BOOL = ("false", "true")
_TEMPERATURE = Knob("temperature", "float", 1.0, 0.01, 10.0, neutral=1.0, generate_name="temperature")
_BEAMS = Knob("num_beams", "int", 4, 2, 16, neutral=1, generate_name="num_beams")
_LENGTH_PENALTY = Knob("length_penalty", "float", 1.0, -4.0, 4.0, neutral=1.0, generate_name="length_penalty")
_ENDING = (
    _LENGTH_PENALTY,
    Knob(
        "early_stopping",
        "choice",
        False,
        choices=("false", "true", "never"),
        neutral=False,
        generate_name="early_stopping",
    ),
)
_ANY = (
    Knob("repetition_penalty", "float", 1.0, 0.1, 10.0, neutral=1.0, generate_name="repetition_penalty"),
    Knob("presence_penalty", "float", 0.0, -10.0, 10.0, neutral=0.0),
    Knob("frequency_penalty", "float", 0.0, -10.0, 10.0, neutral=0.0),
    Knob("no_repeat_ngram_size", "int", 0, 0, 50, neutral=0, generate_name="no_repeat_ngram_size"),
    Knob("banned", "texts", "", neutral=""),
    Knob("stop", "texts", "", neutral=""),
    Knob("start", "ids", "", neutral=""),
)
_DRY = (
    Knob("dry_multiplier", "float", 0.0, 0.0, 10.0, neutral=0.0),
    Knob("dry_base", "float", 1.75, 1.0, 10.0, belongs_to="dry_multiplier"),
    Knob("dry_allowed_length", "int", 2, 1, 100, belongs_to="dry_multiplier"),
)
_XTC = (
    Knob("xtc_probability", "float", 0.0, 0.0, 1.0, neutral=0.0),
    Knob("xtc_threshold", "float", 0.1, 0.0, 0.5, belongs_to="xtc_probability"),
)
_TOP_K = Knob("top_k", "int", 0, 0, 1000, neutral=0, generate_name="top_k")
_TOP_N_SIGMA = Knob("top_n_sigma", "float", 0.0, 0.0, 20.0, neutral=0.0)
_TOP_H = Knob("top_h", "float", 1.0, 0.01, 1.0, generate_name="top_h")
_TOP_P = Knob("top_p", "float", 1.0, 0.01, 1.0, neutral=1.0, generate_name="top_p")
_MIN_P = Knob("min_p", "float", 0.0, 0.0, 1.0, neutral=0.0, generate_name="min_p")
_TYPICAL_P = Knob("typical_p", "float", 1.0, 0.01, 1.0, neutral=1.0, generate_name="typical_p")
_EPSILON = Knob("epsilon_cutoff", "float", 0.0, 0.0, 0.5, neutral=0.0, generate_name="epsilon_cutoff")
_ETA = Knob("eta_cutoff", "float", 0.0, 0.0, 0.5, neutral=0.0, generate_name="eta_cutoff")
FILTERS = (_TOP_N_SIGMA, _TOP_H, _TOP_K, _TOP_P, _MIN_P, _TYPICAL_P, _EPSILON, _ETA)
"""The knobs whose function in `inference.columns.samplers` removes tokens, in the order of application."""
_WARPERS = (_TEMPERATURE, Knob("temperature_last", "choice", False, choices=_BOOL, neutral=False), *FILTERS)
_SEED = Knob("seed", "int", "", 0, MAX_SEED, neutral="")
_DRAWING = (*_WARPERS, *_DRY, *_XTC, _SEED)


def _draw(key: str, source: str, *knobs: Knob, more: tuple[Knob, ...] = _DRAWING) -> Strategy:
    """Return a sampling strategy: its own knobs, the temperature, and every other knob that sampling takes."""
    own = (*knobs, _TEMPERATURE)
    return _strategy(key, "sample", source, *own, more=more)


def _strategy(key: str, kind: Kind, source: str, *knobs: Knob, more: tuple[Knob, ...] = ()) -> Strategy:
    names = {knob.name for knob in knobs}
    return Strategy(key, kind, knobs, source, tuple(knob for knob in (*more, *_ANY) if knob.name not in names))


_TABLE = (
    _strategy("greedy", "greedy", "Lowerre 1976"),
    _strategy("beam", "beam", "Lowerre 1976; Wu et al. 2016, arXiv:1609.08144", _BEAMS, *_ENDING),
    _strategy(
        "beam_sample",
        "beam",
        "transformers, do_sample with num_beams",
        _BEAMS,
        _TEMPERATURE,
        *_ENDING,
        more=(*_WARPERS[1:], _SEED),
    ),
    _strategy(
        "diverse_beam",
        "diverse_beam",
        "Vijayakumar et al. 2016, arXiv:1610.02424",
        replace(_BEAMS, default=6),
        Knob("num_groups", "int", 3, 2, 16, neutral=1, generate_name="num_beam_groups"),
        Knob("diversity_penalty", "float", 1.0, 0.0, 20.0, neutral=0.0, generate_name="diversity_penalty"),
        _LENGTH_PENALTY,
    ),
    _strategy(
        "dynamic_beam",
        "dynamic_beam",
        "Freitag & Al-Onaizan 2017, arXiv:1702.01806; width from entropy",
        replace(_BEAMS, default=8),
        Knob("prune_absolute", "float", 2.5, 0.0, 100.0),
        Knob("prune_local", "float", 0.02, 0.0, 1.0),
        Knob("per_node", "int", 3, 1, 16),
        Knob("entropy_width", "float", 0.0, 0.0, 16.0),
        *_ENDING,
    ),
    _draw("sample", "ancestral sampling"),
    _draw("top_k", "Fan et al. 2018, arXiv:1805.04833", replace(_TOP_K, default=50, minimum=1)),
    _draw("nucleus", "Holtzman et al. 2020, arXiv:1904.09751", replace(_TOP_P, default=0.9)),
    _draw("min_p", "Nguyen et al. 2024, arXiv:2407.01082", replace(_MIN_P, default=0.1)),
    _draw("typical", "Meister et al. 2022, arXiv:2202.00666", replace(_TYPICAL_P, default=0.9)),
    _draw("epsilon", "Hewitt et al. 2022, arXiv:2210.15191", replace(_EPSILON, default=3e-4)),
    _draw("eta", "Hewitt et al. 2022, arXiv:2210.15191", replace(_ETA, default=2e-3)),
    _draw("top_h", "Potraghloo et al. 2025, arXiv:2509.02510", replace(_TOP_H, default=0.4)),
    _draw("top_n_sigma", "Tang et al. 2024, arXiv:2411.07641", replace(_TOP_N_SIGMA, default=1.0)),
    _draw(
        "mirostat",
        "Basu et al. 2021, arXiv:2007.14966, version 2",
        Knob("mirostat_tau", "float", 5.0, 0.1, 20.0),
        Knob("mirostat_eta", "float", 0.1, 0.0, 1.0, belongs_to="mirostat_tau"),
        more=(*_DRY, _SEED),
    ),
    _draw("dry", "text-generation-webui #5677", replace(_DRY[0], default=0.8), *_DRY[1:]),
    _draw("xtc", "text-generation-webui #6335", replace(_XTC[0], default=0.5), _XTC[1]),
    _strategy(
        "contrastive",
        "contrastive",
        "Su et al. 2022, arXiv:2202.06417",
        replace(_TOP_K, default=4, minimum=2, maximum=16),
        Knob("penalty_alpha", "float", 0.6, 0.0, 1.0, generate_name="penalty_alpha"),
    ),
    _strategy(
        "contrast",
        "contrast",
        "Li et al. 2022, arXiv:2210.15097: tuned against base",
        Knob("plausibility", "float", 0.1, 0.0, 1.0),
        Knob("strength", "float", 1.0, 0.0, 10.0),
    ),
    _strategy(
        "dola",
        "dola",
        "Chuang et al. 2023, arXiv:2309.03883",
        Knob("layers", "choice", "high", choices=("high", "low")),
        Knob("plausibility", "float", 0.1, 0.0, 1.0),
    ),
    _strategy(
        "lookup",
        "lookup",
        "Saxena 2023, prompt lookup decoding",
        Knob("ngram", "int", 3, 1, 10),
        Knob("draft_tokens", "int", 8, 1, 32),
    ),
)
STRATEGIES: dict[str, Strategy] = {strategy.key: strategy for strategy in _TABLE}


def known_knobs() -> dict[str, Knob]:
    """Return every knob of the table by its name, each once: strategies differ only in its default and bounds."""
    found: dict[str, Knob] = {}
    for strategy in STRATEGIES.values():
        for knob in (*strategy.knobs, *strategy.more):
            found.setdefault(knob.name, knob)
    return found


@dataclass(frozen=True)
class ColumnSpec:
    """One column of a comparison.

    `name` is the line as given; `knobs` holds every knob of the strategy's own and the others that were given; `model`
    is "tuned", "base", a reference as typed or empty: then it is the comparison's own model, with its adapter if it has
    one. `notes` are sentences about what had to be changed.
    """

    name: str
    strategy: str
    knobs: dict[str, Value] = field(default_factory=dict)
    model: str = ""
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        return STRATEGIES[self.strategy].kind

    @property
    def draws(self) -> bool:
        """Whether it samples."""
        return self.kind == "sample" or self.strategy == "beam_sample"

    @property
    def rows(self) -> int:
        """The most rows of the batch that the column takes."""
        if self.kind == "contrast":
            return 2
        if self.kind == "contrastive":
            return int(self.knobs["top_k"])
        return int(self.knobs.get("num_beams", 1))

    @property
    def start(self) -> list[int]:
        """The token ids to start with, whatever the strategy would have chosen."""
        return ids_of(str(self.knobs.get("start", "")))

    def number(self, name: str) -> float:
        """Return the value of a knob that the strategy takes, its default if it is not set."""
        knob = STRATEGIES[self.strategy].knob(name)
        assert knob is not None, name
        return float(self.knobs.get(name, knob.default))

    def acting(self, name: str) -> float | None:
        """Return the value of a numeric knob; None if it is not set, or set to its neutral value."""
        value, knob = self.knobs.get(name, ""), STRATEGIES[self.strategy].knob(name)
        return None if value == "" or knob is None or value == knob.neutral else float(value)

    def has_effect(self, name: str) -> bool:
        """Return whether a knob that is set changes anything: it is not neutral, and the knob that it belongs to is
        not, either."""
        knob = known_knobs()[name]
        own = self.knobs.get(name, knob.neutral) != knob.neutral
        return own and (not knob.belongs_to or self.has_effect(knob.belongs_to))

    def texts(self, name: str) -> list[str]:
        """Return the pieces of a knob such as `stop`; empty if it is not set."""
        return [piece for piece in pieces_of(str(self.knobs.get(name, ""))) if piece]


def parse_column(text: str) -> ColumnSpec:
    """Return the column of a line such as `nucleus top_p=0.9 temperature=0.8 model=base` or `greedy stop="\\n\\n"`.

    Raises UserError for an unknown strategy or knob, a value that is not a number or out of range, a knob given twice,
    and knobs that contradict each other.
    """
    words = split_line(text)
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
    _check_together(strategy.key, knobs)
    return ColumnSpec(text, strategy.key, knobs, model)


def _check_together(strategy: str, knobs: dict[str, Value]) -> None:
    """Raise UserError for knobs that contradict each other."""
    beams, groups = int(knobs.get("num_beams", 1)), int(knobs.get("num_groups", 1))
    if beams % groups:
        raise UserError("decode.knobs_groups", strategy=strategy, beams=beams, groups=groups)
    if knobs.get("temperature_last") is True and knobs.get("temperature", 1.0) == _TEMPERATURE.neutral:
        raise UserError("decode.knobs_order", strategy=strategy)


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
    known = [*(knob.name for knob in (*strategy.knobs, *strategy.more)), "model"]
    return UserError("decode.knob_unknown", strategy=strategy.key, knob=name[:40], near=_near(name, known))


def _near(word: str, known: list[str]) -> str:
    """Return the known words, a similar one first if there is one."""
    near = difflib.get_close_matches(word, known, 1, 0.6)
    return ", ".join([*near, *(name for name in known if name not in near)])


def parse_columns(lines: list[str]) -> list[ColumnSpec]:
    """Return 1 to 12 columns. Raises UserError for another number of them and for each wrong line."""
    if not 1 <= len(lines) <= MAX_COLUMNS:
        raise UserError("decode.columns_number", value=len(lines), maximum=MAX_COLUMNS)
    return [parse_column(line) for line in lines]


def check_run(seed: int, max_new_tokens: int) -> None:
    """Raise UserError unless the seed and the number of new tokens are integers within their ranges."""
    check_whole("seed", seed, 0, MAX_SEED)
    check_whole("max_new_tokens", max_new_tokens, 1, MAX_NEW_TOKENS)
