"""What the cards of Compare are told: little at a time, and all of it."""

import json
import uuid

import httpx
from gradio.utils import diff

from core.words import say
from inference.events import Alternative, Board, ColumnResult, Finished, Started, Step, TokenView, Trace
from tests.ui.people import filled, on_the_board
from ui.compare import board_feed
from ui.compare.board import lines_of

PIECE = "word "
METRICS = {"tokens": 1, "perplexity": 2.0}


def result(name="greedy", **more):
    return ColumnResult(name, "base", [1], "text", "length", METRICS, **more)


def test_twelve_columns_of_two_thousand_tokens_stay_cheap_to_update():
    """What travels is what Gradio makes of two updates: the difference. Ten tokens an update, as at 100 tokens/s."""
    state, sizes = Board(), []
    state.take(Started(3, ["greedy"] * 12, ["base"] * 12))
    before = board_feed.update(1, state.columns)
    for number in range(2000):
        for column in range(12):
            state.take(Step(column, PIECE, "", []))
        if number % 10 == 9:
            now = board_feed.update(1, state.columns)
            sizes.append(len(json.dumps(diff(before, now))))
            before = now
    assert sum(len(column.firm) for column in state.columns) == 12 * 2000 * len(PIECE)
    assert sizes[-1] <= sizes[0] + 12 * 8, "an update costs the same at the end as at the beginning"
    assert max(sizes) < 12 * (10 * len(PIECE) + 60)


def test_a_running_comparison_sends_its_text_once_and_the_tokens_at_the_end(app, tiny_model):
    """Over real HTTP: the messages while it writes are together not much more than the text."""
    entry = next(entry for entry in app.config()["dependencies"] if entry["api_name"] == "compare_run")
    data = filled(app, entry, on_the_board(str(tiny_model), ["greedy", "sample"], 400))
    session = uuid.uuid4().hex[:11]
    body = {"data": data, "fn_index": entry["id"], "session_hash": session, "trigger_id": None}
    sent, last = [], {}
    with httpx.Client(base_url=f"{app.url}/gradio_api", timeout=120) as client:
        client.post("/queue/join", json=body).raise_for_status()
        with client.stream("GET", "/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") == "process_generating":
                    sent.append(message["output"]["data"])
                if message.get("msg") == "process_completed":
                    last = message
                    break
    assert last["success"], last
    shown = last["output"]["data"][0]["columns"]
    text = sum(len(json.dumps(column["firm"])) for column in shown)
    updates = sum(len(json.dumps(data[0])) for data in sent)
    assert updates < 2 * text + 700 * len(sent)
    assert "packed" not in json.dumps(last["output"]["data"])
    assert sum("packed" in json.dumps(data[4]) for data in sent) <= 2, "sent once, and taken off the list once"


def test_packed_tokens_hold_all_that_is_shown_of_them():
    top = (Alternative(" tea", 7, 0.6, 0.9), Alternative("\n", 8, 0.3, 0.0), Alternative("x", 9, 0.0001, 0.0))
    tokens = [
        TokenView("\n", 8, 0.3, 2, 1.25, top, 0.0, 1),
        TokenView("z", 5, 1e-5, 4000, 0.123456, (Alternative("z", 5, 1.0),)),
    ]
    unpacked = json.loads(board_feed.packed(tokens))
    assert unpacked["pieces"] == {"8": "\n", "7": " tea", "5": "z"}
    assert unpacked["tokens"] == [
        [8, 0.3, 2, 1.25, 0, 1, [7, 8], [0.6, 0.3], [0.9, 0]],
        [5, 1e-5, 4000, 0.1235, None, None, [5], [1], None],
    ]


def test_a_part_of_a_character_is_told_with_what_it_adds():
    parts = [("a", None), ("\ufffd", ""), ("\ufffd", "茶"), (" b", None)]
    tokens = [TokenView(text, 1, 0.5, 1, 1.0, (), adds=adds) for text, adds in parts]
    assert [row[9:] for row in json.loads(board_feed.packed(tokens))["tokens"]] == [[], [""], ["茶"], []]


def test_two_thousand_tokens_with_eight_alternatives_pack_into_a_few_hundred_kilobytes():
    top = tuple(Alternative(f" word{place}", 30_000 + place, 0.123456 / (place + 1), 0.2) for place in range(8))
    tokens = [TokenView(" word0", 30_000, 0.123456, 1, 3.21987, top, 0.2, 50) for _ in range(2000)]
    assert len(board_feed.packed(tokens)) < 2000 * 200


def test_a_beam_of_dynamic_width_says_what_it_saved():
    state = Board()
    state.take(Started(3, ["dynamic_beam num_beams=8", "beam"], ["base"] * 2))
    for column in range(2):
        state.take(Step(column, "", "draft", [], 3, 20))
    dynamic, fixed = board_feed.update(1, state.columns)["columns"]
    assert (dynamic["notes"], fixed["notes"]) == ([say("board.width_now", now=3, saved=20)], [])
    assert "3" in dynamic["notes"][0] and "20" in dynamic["notes"][0]
    trace = Trace(widths=(1, 4, 2, 3), fixed_width=8, notes=("told by the column",))
    said = board_feed.notes(trace)
    assert said == [say("board.width", now=3, least=1, most=4, used=10, saved=15, fixed=25), "told by the column"]
    given = board_feed.notes(Trace(widths=(1, 1, 1, 4), fixed_width=8, given=2))
    assert given == [say("board.width", now=4, least=1, most=4, used=7, saved=4, fixed=11)]


def test_other_hypotheses_come_with_score_and_text():
    trace = Trace(others=((-0.5, (1, 2)), (-0.75, (1, 3))), other_texts=("a b", "a c"))
    state = Board()
    state.take(Started(3, ["diverse_beam"], ["base"]))
    state.take(Finished(0, result("diverse_beam num_groups=2", trace=trace)))
    (column,) = board_feed.update(1, state.columns, final=True)["columns"]
    assert column["others"] == [["-0.50", "a b"], ["-0.75", "a c"]]
    assert column["groups"] is True


def test_what_is_empty_on_a_card_is_not_sent_and_texts_are_quoted():
    knobs = {"top_p": "0.8", "temperature": "", "stop": 'the end|"quoted"'}
    card = {"strategy": "nucleus", "model": " base ", "knobs": knobs}
    assert lines_of({"columns": [card]}) == [r'nucleus top_p=0.8 stop="the end|\"quoted\"" model=base']
