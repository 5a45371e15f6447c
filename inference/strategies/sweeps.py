"""Sweeps: one setting of one column over several values, each as a separate column."""

import math
from collections.abc import Sequence

from core.errors import UserError
from inference.strategies.knobs import Knob
from inference.strategies.syntax import join_line, split_line
from inference.strategies.table import MAX_COLUMNS, STRATEGIES, parse_column

FEWEST = 3
SCALES = ("linear", "log")


def sweep(line: str, knob: str, values: Sequence[str]) -> list[str]:
    """Return `line` once for each value of its setting `knob`, in the order given, each value once.

    Raises UserError for a setting that the strategy lacks or that holds texts, for a wrong value, and for fewer than 3
    or more than 12 different values.
    """
    pairs = _pairs(line)
    _numeric(line, knob)
    made = {_value(line, knob, value): value for value in values}
    if not FEWEST <= len(made) <= MAX_COLUMNS:
        raise UserError("board.sweep_number_of", knob=knob, value=len(made), least=FEWEST, most=MAX_COLUMNS)
    return [join_line(split_line(line)[0], (pairs | {knob: value}).items()) for value in made.values()]


def spread(line: str, knob: str, low: float, high: float, count: int, scale: str = "linear") -> list[str]:
    """Return `count` values from `low` to `high`, at equal distances or, with "log", at equal ratios; integers if the
    setting is one. Raises UserError as `sweep` does, and for "log" with a bound that is not above 0."""
    found = _numeric(line, knob)
    if not FEWEST <= count <= MAX_COLUMNS:
        raise UserError("board.sweep_number_of", knob=knob, value=count, least=FEWEST, most=MAX_COLUMNS)
    if scale not in SCALES or not (math.isfinite(low) and math.isfinite(high)):
        raise UserError("board.sweep_bounds", knob=knob, low=f"{low:g}", high=f"{high:g}")
    if scale == "log" and (low <= 0 or high <= 0):
        raise UserError("board.sweep_positive", knob=knob, low=f"{low:g}", high=f"{high:g}")
    shares = [index / (count - 1) for index in range(count)]
    if scale == "log":
        values = [low * (high / low) ** share for share in shares]
    else:
        values = [low + (high - low) * share for share in shares]
    return [str(round(value)) if found.type == "int" else f"{value:.4g}" for value in values]


def values_of(text: str) -> list[str]:
    """Return the values of a typed list, separated by commas or spaces."""
    return text.replace(",", " ").split()


def _pairs(line: str) -> dict[str, str]:
    parse_column(line)
    return dict(word.split("=", 1) for word in split_line(line)[1:])


def _numeric(line: str, name: str) -> Knob:
    """Return the setting of that name. Raises UserError if there is none, or it holds texts."""
    strategy = STRATEGIES[parse_column(line).strategy]
    knob = strategy.knob(name)
    if knob is None or knob.type in ("texts", "ids"):
        known = [
            candidate.name for candidate in (*strategy.knobs, *strategy.more) if candidate.type not in ("texts", "ids")
        ]
        raise UserError("board.sweep_knob_wrong", strategy=strategy.key, knob=name[:40], known=", ".join(known))
    return knob


def _value(line: str, name: str, value: str) -> object:
    """Return the value as the setting reads it. Raises UserError for a wrong one."""
    return _numeric(line, name).read(parse_column(line).strategy, value)
