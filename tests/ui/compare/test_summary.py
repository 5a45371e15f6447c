"""What Compare says of a comparison."""

import html

import pytest

from core.words import say
from inference.events import Board, Done, Result, Started
from ui.compare import tab as compare_tab


@pytest.mark.parametrize("stands_in", [True, False])
def test_the_summary_says_that_a_run_is_on_the_stand_in(stands_in):
    board = Board()
    board.take(Started(3, [], [], "r20260101-000000-abcd", stand_in=stands_in))
    board.take(Done(Result("r20260101-000000-abcd", "float32", 3, 1, 0.1, 0.1, [])))
    words = say("page.stand_in", default=compare_tab.settings.DEFAULT_MODEL)
    assert (words in compare_tab._summary(board)) is stands_in


@pytest.mark.parametrize(
    ("dtype", "exact", "key"),
    [
        ("bfloat16", False, "board.approximate"),
        ("bfloat16", True, "board.is_exact"),
        ("float32", False, None),
        ("float32", True, None),
    ],
)
def test_the_summary_says_whether_sixteen_bits_are_exact(dtype, exact, key):
    board = Board()
    board.take(Started(3, [], [], "a/model"))
    board.take(Done(Result("a/model", dtype, 3, 1, 0.1, 0.1, [])))
    shown = html.unescape(compare_tab._summary(board, exact))
    assert [one for one in ("board.approximate", "board.is_exact") if say(one) in shown] == ([key] if key else [])


@pytest.mark.parametrize("short", [True, False])
def test_the_summary_says_when_memory_is_short(short):
    board = Board()
    board.take(Started(3, [], [], "a/model", short_of_memory=short))
    board.take(Done(Result("a/model", "float32", 3, 1, 0.1, 0.1, [])))
    assert (say("board.short_of_memory") in compare_tab._summary(board)) is short
