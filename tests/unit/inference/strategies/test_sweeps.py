"""Sweeps: one setting over several values."""

import pytest

from core.errors import UserError
from inference.strategies.sweeps import spread, sweep, values_of
from inference.strategies.table import parse_columns


def test_a_sweep_is_the_same_column_with_other_values_in_order():
    lines = sweep('nucleus top_p=0.9 stop="the end" model=base', "top_p", ["0.5", "0.7", "0.95"])
    assert lines == [f'nucleus top_p={value} stop="the end" model=base' for value in ("0.5", "0.7", "0.95")]
    assert [spec.knobs["top_p"] for spec in parse_columns(lines)] == [0.5, 0.7, 0.95]


def test_a_setting_that_was_not_given_is_added():
    assert sweep("greedy", "repetition_penalty", ["1", "1.1", "1.3"])[2] == "greedy repetition_penalty=1.3"


def test_words_can_be_swept_too():
    lines = sweep("beam", "early_stopping", values_of("false, true never"))
    assert [spec.knobs["early_stopping"] for spec in parse_columns(lines)] == [False, True, "never"]


@pytest.mark.parametrize(
    ("line", "knob", "bounds", "expected"),
    [
        ("sample", "temperature", (0.5, 1.5, 5), ["0.5", "0.75", "1", "1.25", "1.5"]),
        ("sample", "temperature", (0.25, 4, 5, "log"), ["0.25", "0.5", "1", "2", "4"]),
        ("beam", "num_beams", (2, 16, 4, "log"), ["2", "4", "8", "16"]),
        ("top_k", "top_k", (5, 1, 3), ["5", "3", "1"]),
        ("sample", "seed", (1, 4_000_000_000, 3), ["1", "2000000000", "4000000000"]),
    ],
)
def test_values_are_spread_between_their_bounds(line, knob, bounds, expected):
    assert spread(line, knob, *bounds) == expected
    assert len(parse_columns(sweep(line, knob, expected))) == len(expected)


@pytest.mark.parametrize(
    ("line", "knob", "values", "said"),
    [
        ("nucleus", "top_p", ["0.5", "0.7"], "3 to 12 different values, not 2"),
        ("nucleus", "top_p", ["0.5", "0.50", "0.7"], "not 2"),
        ("nucleus", "top_p", [f"0.{value:02}" for value in range(10, 23)], "not 13"),
        (
            "nucleus",
            "top_q",
            ["1", "2", "3"],
            '"top_q" is not a setting of "nucleus" that can be swept. Choose one of: top_p',
        ),
        ("nucleus", "stop", ["a", "b", "c"], "can be swept"),
        ("nucleus", "top_p", ["0.5", "0.7", "7"], "out of range"),
        ("nucleus", "top_p", ["0.5", "0.7", "much"], "not a number"),
        ("nucleos", "top_p", ["0.5", "0.7", "0.9"], "not a decoding strategy"),
    ],
)
def test_what_is_no_sweep_is_refused_in_words(line, knob, values, said):
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        sweep(line, knob, values)


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ((0, 1, 5, "log"), "above 0"),
        ((0.1, 1, 2), "3 to 12"),
        ((0.1, 1, 13), "3 to 12"),
        ((0.1, float("inf"), 5), "two finite numbers"),
        ((0.1, 1, 5, "cubic"), "linear or logarithmic"),
    ],
)
def test_bounds_that_cannot_be_spread_are_refused_in_words(bounds, said):
    with pytest.raises(UserError, match=said):
        spread("nucleus", "top_p", *bounds)
