"""A column's line: what is written into it is what is read out of it."""

import pytest

from core.errors import UserError
from inference.strategies.knobs import pieces_of
from inference.strategies.syntax import join_line, quoted, split_line
from inference.strategies.table import parse_column

TEXTS = [
    "the end",
    r"\n\n|###",
    r"a\|b|two words",
    '"',
    'he said "no"|she said "yes"',
    " leading and trailing ",
    "tab\there",
    "line\nbreak",
    "a=b",
    r"C:\new folder",
    "茶 茶",
    "=",
    r"one \\ two",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_value_comes_back_as_it_went_in(text):
    spec = parse_column(join_line("greedy", [("stop", text), ("banned", text), ("seed", 3)][:2]))
    assert spec.knobs == {"stop": text, "banned": text}


@pytest.mark.parametrize("text", ['\\"', "two words\\", 'x \\\\\\" y', "\\ \\"])
def test_a_backslash_before_a_quote_or_the_end_means_the_same_pieces(text):
    (word,) = split_line(f"stop={quoted(text)}")
    assert pieces_of(word.removeprefix("stop=")) == pieces_of(text)


def test_backslashes_in_quotes_stay_as_they_are_typed():
    assert split_line(r'greedy stop="\n\n|the end" banned=\t') == ["greedy", r"stop=\n\n|the end", r"banned=\t"]
    assert split_line('a  "b c"d\t""') == ["a", "b cd", ""]


@pytest.mark.parametrize("line", ['greedy stop="the end', 'greedy stop="a\\"', '"'])
def test_a_quote_that_is_never_closed_is_refused(line):
    with pytest.raises(UserError, match="without a closing one"):
        split_line(line)
