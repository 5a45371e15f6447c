"""Compare with several visitors at once, over real HTTP on the running app: turns, places, closed tabs."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.ui.people import Visitor, entry_of, listening, on_the_board, until

TWELVE = ["greedy", *(f"sample temperature=1.{number}" for number in range(10)), "beam num_beams=4"]
LONG = 4000


@pytest.fixture(scope="module")
def model(space):
    """Its name, once it is loaded."""
    said = _person(space, "warm").call(entry_of(space, "compare"), _asked(space.model, ["greedy"], 4))
    assert said["success"], said
    return space.model


def _person(space, name):
    """Somebody signed in, whose token that Hub knows; strangers have none."""
    return Visitor(space, name, token=space.token)


def _asked(model, columns, tokens):
    return ["hi", columns, model, "", 1, tokens, "float32", True, False]


def _events(space, name):
    """Those of comparisons: checks and prompt sets wait in the same queue and are logged as what they are."""
    lines = [json.loads(line) for line in space.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name and line.get("what", "comparison") == "comparison"]


def wait_for(look):
    while not (found := look()):
        time.sleep(0.02)
    return found


WAITING = "Queued. Comparisons of other visitors before yours"


@pytest.fixture(autouse=True)
def idle(space):
    """Nobody writes or waits any more: each that joined has ended."""
    wait_for(lambda: len(_events(space, "queued")) == len(_events(space, "comparison")))


def test_twelve_columns_asked_for_twice_hold_up_anothers_one_for_one_request_alone(space, model):
    entry, page = entry_of(space, "compare"), entry_of(space, "compare_run")
    asked = [("ada", TWELVE, 40), ("ada", TWELVE, 40), ("grace", ["greedy"], 5)]
    queued, done = len(_events(space, "queued")), len(_events(space, "comparison"))

    def ask(name, columns, tokens):
        return _person(space, name).call(entry, _asked(model, columns, tokens))["success"]

    zoe = listening(_person(space, "zoe"), page, on_the_board(model, TWELVE, LONG))
    with ThreadPoolExecutor(3) as pool, zoe as first:
        until(first, "is generating")
        futures = []
        for number, request in enumerate(asked):
            futures.append(pool.submit(ask, *request))
            wait_for(lambda number=number: len(_events(space, "queued")) == queued + number + 2)
        assert [event["before"] for event in _events(space, "queued")[queued:]] == [0, 1, 2, 2]
    assert all(future.result() for future in futures)
    assert [event["columns"] for event in _events(space, "comparison")[done + 1 :]] == [12, 1, 12]


def test_who_waits_sees_the_place_and_a_tab_that_is_closed_while_it_waits_gives_it_up(space, model):
    entry = entry_of(space, "compare_run")
    ada, grace, zoe = (_person(space, name) for name in ("ada", "grace", "zoe"))
    with listening(ada, entry, on_the_board(model, TWELVE, LONG)) as first:
        until(first, "is generating")
        with listening(grace, entry, on_the_board(model, ["greedy"], 2)) as second:
            until(second, f"{WAITING}: 1.")
            with listening(zoe, entry, on_the_board(model, ["greedy"], 2)) as third:
                until(third, f"{WAITING}: 2.")
        with listening(zoe, entry, on_the_board(model, ["greedy"], 2)) as again:
            until(again, f"{WAITING}: 1.")


@pytest.mark.parametrize(
    ("name", "asked"),
    [("compare_run", on_the_board), pytest.param("compare", _asked, marks=pytest.mark.ci)],
    ids=["page", "program"],
)
def test_a_tab_closed_in_the_middle_stops_the_engine_and_frees_its_rows(space, model, name, asked):
    """The page's generator and the plain function of programs alike; both the stop and the next one's turn show it.

    A program's going is noticed after up to ten seconds, for Gradio looks at a stream that it sends nothing on no
    more often.
    """
    done, queued = len(_events(space, "comparison")), len(_events(space, "queued"))
    with listening(_person(space, "ada"), entry_of(space, name), asked(model, TWELVE, LONG)) as messages:
        wait_for(lambda: _events(space, "queued")[queued:])
        if name == "compare_run":
            until(messages, "is generating")
    cut = time.time()
    quick = _person(space, "grace").call(entry_of(space, "compare"), _asked(model, ["greedy"], 3))
    assert quick["success"] and len(quick["output"]["data"][0]["columns"][0]["token_ids"]) == 3
    ended = wait_for(lambda: _events(space, "comparison")[done:])[0]
    assert ended["columns"] == 12 and ended.get("forwards", 0) < LONG / 2, ended
    assert ended.get("late", 0) <= 1, "the engine went on after it was known that nobody listens"
    assert (ended["outcome"] == "ok" and ended["stopped"]) or ended["outcome"] == "refused models.stopped"
    print(name, "freed", f"{time.time() - cut:.2f} s after the cut, with", ended)


def test_a_socket_that_is_cut_hard_is_noticed_too(space, model):
    visitor, entry = _person(space, "ada"), entry_of(space, "compare_run")
    done = len(_events(space, "comparison"))
    visitor.join(entry, on_the_board(model, TWELVE, LONG))
    host, port = space.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as raw:
        cookie = visitor.headers["cookie"]
        target = f"/gradio_api/queue/data?session_hash={visitor.session}"
        raw.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookie}\r\n\r\n".encode())
        seen = b""
        while b"is generating" not in seen:
            seen += raw.recv(65536)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    ended = wait_for(lambda: _events(space, "comparison")[done:])[0]
    assert ended["stopped"] and ended["late"] <= 1 and ended["forwards"] < LONG / 2


def test_places_are_limited_with_a_sentence_for_one_visitor_and_for_all(space, model):
    page, api = entry_of(space, "compare_run"), entry_of(space, "compare")
    short = _asked(model, ["greedy"], 1)
    with listening(_person(space, "ada"), page, on_the_board(model, TWELVE, LONG)) as first:
        until(first, "is generating")
        with listening(_person(space, "ada"), page, on_the_board(model, ["greedy"], 1)) as second:
            until(second, WAITING)
            said = _person(space, "ada").call(api, short)["output"]["error"]
            assert "2 comparisons running or queued; the limit is 2 per visitor" in said
            with listening(_person(space, "zoe"), page, on_the_board(model, ["greedy"], 1)) as third:
                until(third, WAITING)
                said = Visitor(space).call(api, short)["output"]["error"]
                assert "the limit for visitors who are not signed in is 3" in said
                with listening(_person(space, "iris"), page, on_the_board(model, ["greedy"], 1)) as fourth:
                    until(fourth, WAITING)
                    said = _person(space, "grace").call(api, short)["output"]["error"]
                    assert "4 comparisons are running or queued; the limit is 4" in said
    assert wait_for(lambda: _person(space, "ada").call(api, short)["success"])


def test_stop_ends_the_waiting(space, model):
    page, stop = entry_of(space, "compare_run"), entry_of(space, "compare_stop")
    with listening(_person(space, "ada"), page, on_the_board(model, TWELVE, LONG)) as first:
        until(first, "is generating")
        grace = _person(space, "grace")
        with listening(grace, page, on_the_board(model, ["greedy"], 1)) as second:
            until(second, WAITING)
            grace.post("run/predict", {"data": [], "fn_index": stop["id"], "session_hash": grace.session})
            assert "Stopped" in until(second, "process_completed")
