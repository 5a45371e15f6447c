"""Handlers are bound to components by name: their order, on the page or in a list, does not matter."""

import gradio as gr
import pytest

from ui.parts.wiring import by_name
from ui.web.handler import handler


@pytest.fixture
def boxes():
    with gr.Blocks():
        return {name: gr.Textbox() for name in ("first", "second", "third")}


def call(bound, given):
    """What Gradio is given back for {component: value}."""
    request = type("Request", (), {"headers": {}, "session_hash": "tab"})()
    return bound["fn"](request, None, None, given)


def test_values_come_as_keywords_and_go_back_by_component(boxes):
    @handler()
    def swap(caller, *, first, **others):
        return {"first": others["third"], "third": first}

    bound = by_name(swap, boxes, dict(reversed(boxes.items())))
    assert bound["inputs"] == set(boxes.values()) and bound["fn"].__name__ == "swap"
    given = {boxes["third"]: 3, boxes["first"]: 1, boxes["second"]: 2}
    assert call(bound, given) == {boxes["first"]: 3, boxes["third"]: 1}


def test_what_names_nothing_leaves_everything_as_it_is(boxes):
    @handler()
    def nothing(caller, value):
        return {}

    bound = by_name(nothing, boxes["first"], boxes)
    assert bound["inputs"] is boxes["first"] and call(bound, "x") == gr.skip()


def test_an_unknown_name_is_an_error(boxes):
    @handler()
    def wrong(caller, value):
        return {"fourth": value}

    with pytest.raises(KeyError, match="fourth"):
        call(by_name(wrong, boxes["first"], boxes), "x")


def test_a_stream_is_closed_with_who_reads_it(boxes):
    closed = []

    @handler()
    def count(caller, **values):
        try:
            for number in range(9):
                yield {"second": number}
        finally:
            closed.append(True)

    items = call(by_name(count, boxes, boxes), dict.fromkeys(boxes.values()))
    assert next(items) == {boxes["second"]: 0} and closed == []
    items.close()
    assert closed == [True]
