"""Visitors take turns, whatever they asked for."""

import random
import threading

import pytest

from core.errors import UserError
from inference.compare.fair_queue import Turns


@pytest.fixture
def turns(monkeypatch):
    for name in ("PLACES", "QUEUE"):
        monkeypatch.setenv(f"TUNESCOPE_LIMIT_{name}", "0")
    return Turns()


def ask(turns, *visitors):
    """One request each, ready at once."""
    asked = [turns.join(visitor) for visitor in visitors]
    for turn in asked:
        turns.mark_ready(turn)
    return asked


def order(turns, asked):
    """Who gets a turn, one after the other, as `name` and the number of the visitor's request."""
    names, count = {}, {}
    for turn in asked:
        count[turn.visitor] = count.get(turn.visitor, 0) + 1
        names[turn] = f"{turn.visitor}{count[turn.visitor]}"
    served = []
    while working := [turn for turn in asked if turn.mine and names[turn] not in served]:
        assert len(working) == 1
        served.append(names[working[0]])
        working[0].leave()
    return served


def test_one_visitors_many_requests_hold_up_anothers_one_for_no_more_than_one(turns):
    assert order(turns, ask(turns, "a", "a", "a", "b", "c")) == ["a1", "b1", "c1", "a2", "a3"]


def test_who_waits_for_a_second_turn_is_not_overtaken_for_ever(turns):
    first, second, other = ask(turns, "a", "a", "b")
    first.leave()
    assert other.mine
    late = ask(turns, "c")[0]
    other.leave()
    assert second.mine and late.before() == 1


def test_at_no_moment_does_a_visitors_one_request_wait_for_two_of_the_same_other(turns):
    chance = random.Random(5)
    working, asked = [], []
    for _ in range(600):
        if working and chance.random() < 0.45:
            working[0].leave()
            asked.remove(working[0])
        elif len(asked) < 40:
            turn = ask(turns, chance.choice("abcdefgh"))[0]
            ahead = [other.visitor for other in asked if other.before() < turn.before() or other.mine]
            assert turn.visitor in ahead or len(ahead) == len(set(ahead))
            asked.append(turn)
        working = [turn for turn in asked if turn.mine]
        assert len(working) == min(1, len(asked))


def test_everybody_knows_how_many_come_before_them(turns):
    asked = ask(turns, "a", "b", "c")
    assert [turn.before() for turn in asked] == [0, 1, 2]
    asked[1].leave()
    assert asked[2].before() == 1
    asked[0].leave()
    assert asked[2].mine and asked[2].before() == 0


def test_who_is_not_ready_keeps_the_place_and_holds_nobody_up(turns):
    fetching = turns.join("a")
    writing = ask(turns, "b")[0]
    assert writing.mine
    waiting = ask(turns, "c")[0]
    turns.mark_ready(fetching)
    writing.leave()
    assert fetching.mine and not waiting.mine


def test_a_stop_ends_the_waiting(turns):
    ask(turns, "a")
    stop, answers = threading.Event(), []
    turn = turns.join("b")
    thread = threading.Thread(target=lambda: answers.append(turn.take(stop)))
    thread.start()
    stop.set()
    thread.join()
    assert answers == [False]


def test_the_turn_comes_to_who_waits_in_another_thread(turns):
    first = ask(turns, "a")[0]
    answers, turn = [], turns.join("b")
    thread = threading.Thread(target=lambda: answers.append(turn.take(threading.Event())))
    thread.start()
    with first:
        assert not turn.mine
    thread.join()
    assert answers == [True]


def test_places_are_limited_for_one_visitor_and_for_all_with_a_sentence(monkeypatch):
    monkeypatch.setenv("TUNESCOPE_LIMIT_PLACES", "2")
    monkeypatch.setenv("TUNESCOPE_LIMIT_QUEUE", "3")
    turns = Turns()
    ask(turns, "a", "a")
    with pytest.raises(UserError, match="2 comparisons running or queued; the limit is 2 per visitor"):
        turns.join("a")
    third = ask(turns, "b")[0]
    with pytest.raises(UserError, match="the limit is 3"):
        turns.join("c")
    third.leave()
    assert turns.join("c").before() == 1


def test_strangers_leave_a_quarter_of_the_places_to_those_who_are_known(monkeypatch):
    monkeypatch.setenv("TUNESCOPE_LIMIT_QUEUE", "4")
    turns = Turns()
    for number in range(3):
        turns.join(f"stranger {number}", stranger=True)
    with pytest.raises(UserError, match="the limit for visitors who are not signed in is 3"):
        turns.join("stranger 3", stranger=True)
    assert turns.join("ada").before() == 3
