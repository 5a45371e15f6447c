"""The line of comparisons, and what Compare says of the one that has its turn."""

import threading

import pytest

from core.words import say
from inference.results import Board, Done, Result, Started
from ui import compare_tab
from ui.turns import Line


def test_the_turn_goes_by_arrival_and_a_place_given_up_moves_the_others():
    line = Line()
    with line.place() as first:
        with line.place() as second, line.place() as third:
            assert [place.before for place in (first, second, third)] == [0, 1, 2]
            assert [place.reached(0) for place in (first, second, third)] == [True, False, False]
        with line.place() as fourth:
            assert fourth.before == 1


def test_who_fails_gives_up_their_place():
    line = Line()
    with pytest.raises(ZeroDivisionError), line.place():
        raise ZeroDivisionError
    with line.place() as place:
        assert place.reached(0)


def test_who_waits_is_let_go_when_the_turn_comes():
    line, there, got = Line(), threading.Event(), []

    def wait():
        with line.place() as place:
            there.set()
            got.append(place.reached(None))

    with line.place():
        thread = threading.Thread(target=wait)
        thread.start()
        there.wait()
        assert got == []
    thread.join()
    assert got == [True]


@pytest.mark.parametrize("stands_in", [True, False])
def test_the_summary_says_that_a_run_is_on_the_stand_in(stands_in):
    board = Board()
    board.take(Started(3, [], [], "r20260101-000000-abcd", stand_in=stands_in))
    board.take(Done(Result("r20260101-000000-abcd", "float32", 3, 1, 0.1, 0.1, [])))
    words = say("page.stand_in", default=compare_tab.settings.DEFAULT_MODEL)
    assert (words in compare_tab._summary(board)) is stands_in
