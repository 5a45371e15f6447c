"""Events, stopping, failures, metrics and the token view of a comparison."""

import math
import threading

import pytest
import torch

from inference.engine.detokenize import Detokenizer, decode
from inference.engine.engine import Panel, compare
from inference.events import Board, Done, Finished, Started, Step
from inference.measures import metrics
from inference.strategies.table import parse_columns
from tests.tiny.decoding import load_tiny, run

COLUMNS = ["greedy", "beam", "sample", "beam num_beams=3 early_stopping=true", "nucleus", "typical"]


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load_tiny(tiny_model, end_ids=[31, 54, 71, 125, 182])


def _panel(loaded, columns, prompt="hello"):
    return Panel(loaded, loaded.tokenizer(prompt)["input_ids"], list(enumerate(parse_columns(columns))))


def test_events_tell_the_whole_story_in_order(loaded):
    events = list(compare([_panel(loaded, COLUMNS)], seed=0, max_new_tokens=30))
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Done)
    assert events[0].names == COLUMNS
    result = events[-1].result
    for index, column in enumerate(result.columns):
        steps = [event for event in events if isinstance(event, Step) and event.column == index]
        ends = [event for event in events if isinstance(event, Finished) and event.column == index]
        assert len(ends) == 1
        assert ends[0].result.token_ids == column.token_ids
        assert [view.token_id for step in steps for view in step.tokens] == column.token_ids
        firm = "".join(step.text_firm for step in steps)
        assert column.text.startswith(firm)
        assert firm + steps[-1].text_draft == column.text


def test_firm_text_is_never_taken_back_and_never_splits_a_character(loaded):
    board = Board()
    for event in compare([_panel(loaded, COLUMNS)], seed=1, max_new_tokens=40):
        before = [column.firm for column in board.columns]
        board.take(event)
        if isinstance(event, Step):
            assert board.columns[event.column].firm.startswith(before[event.column])
    assert [column.text for column in board.columns] == [column.text for column in board.result.columns]


def test_beams_stream_while_they_run(loaded):
    steps = [e for e in compare([_panel(loaded, ["beam"])], seed=0, max_new_tokens=30) if isinstance(e, Step)]
    assert any(step.text_draft for step in steps)
    assert any(step.text_firm for step in steps[:-1])


def test_characters_of_several_tokens_appear_whole(loaded):
    text = "茶 is tea, 🫖 is a pot, naïve"
    ids = loaded.tokenizer(text)["input_ids"]
    detokeniser = Detokenizer(loaded.tokenizer)
    pieces = [detokeniser.add([token_id]) for token_id in ids]
    assert "".join(pieces) == decode(loaded.tokenizer, ids) == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert "" in pieces


def test_a_stop_ends_all_columns_within_one_step_and_keeps_their_text(loaded):
    stop = threading.Event()
    board, steps = Board(), 0
    for event in compare([_panel(loaded, ["greedy", "beam", "sample"])], seed=3, max_new_tokens=400, stop=stop):
        board.take(event)
        steps += isinstance(event, Step) and event.column == 0
        if steps == 5:
            stop.set()
    assert [column.finish for column in board.result.columns] == ["cancelled"] * 3
    assert board.result.forwards <= 6
    assert all(4 <= len(column.token_ids) <= 6 for column in board.result.columns)
    assert all(column.text for column in board.result.columns)


def test_a_stop_before_the_start_costs_no_forward(loaded):
    stop = threading.Event()
    stop.set()
    result = run(loaded, "hello", ["greedy", "beam"], stop=stop)
    assert result.forwards == 0
    assert [(c.finish, c.token_ids, c.metrics["perplexity"]) for c in result.columns] == [("cancelled", [], None)] * 2


def test_one_column_that_fails_leaves_the_others_alone(loaded):
    expected = run(loaded, "hello", ["greedy", "sample"])
    specs = parse_columns(["greedy", "top_k", "sample"])
    specs[1].knobs["top_k"] = -5
    panel = Panel(loaded, loaded.tokenizer("hello")["input_ids"], list(enumerate(specs)))
    result = list(compare([panel], seed=0, max_new_tokens=30))[-1].result
    assert [column.finish == "error" for column in result.columns] == [False, True, False]
    assert "log" in result.columns[1].error
    assert [result.columns[i].token_ids for i in (0, 2)] == [column.token_ids for column in expected.columns]


def test_scores_that_overflow_end_the_columns_with_a_sentence(tiny_model):
    broken = load_tiny(tiny_model)
    with torch.no_grad():
        broken.model.model.norm.weight.fill_(float("inf"))
    result = run(broken, "hello", ["greedy", "beam", "sample"])
    assert [column.finish for column in result.columns] == ["error"] * 3
    assert all("no longer finite numbers" in column.error for column in result.columns)


def test_several_batches_stream_together(loaded, tiny_model):
    other = load_tiny(tiny_model, end_ids=[31])
    panels = [_panel(loaded, ["greedy"]), Panel(other, [5, 6], [(1, parse_columns(["sample"])[0])])]
    events = list(compare(panels, seed=0, max_new_tokens=8))
    moved = [event.column for event in events if isinstance(event, Step)]
    assert moved[:4] == [0, 1, 0, 1]
    assert [column.name for column in events[-1].result.columns] == ["greedy", "sample"]


def test_metrics_are_those_of_the_tokens(loaded):
    """The perplexity by one plain forward over prompt and text, at temperature 1 and before any filter."""
    ids = loaded.tokenizer("hello")["input_ids"]
    for column in run(loaded, "hello", COLUMNS).columns:
        sequence = torch.tensor([ids + column.token_ids])
        with torch.inference_mode():
            logprobs = loaded.model(sequence).logits.log_softmax(-1)[0, len(ids) - 1 : -1]
        chosen = logprobs[range(len(column.token_ids)), column.token_ids]
        assert column.metrics["perplexity"] == pytest.approx(math.exp(-chosen.mean().item()), rel=1e-3)
        assert column.metrics["tokens"] == len(column.token_ids) == len(column.tokens)
        for view, logprob, row in zip(column.tokens, chosen, logprobs, strict=True):
            assert view.probability == pytest.approx(logprob.exp().item(), abs=1e-4)
            assert [one.probability for one in view.top] == pytest.approx(row.exp().topk(8).values.tolist(), abs=1e-4)
            assert view.entropy == pytest.approx(-(row.exp() * row).sum().item(), abs=1e-3)
            assert view.rank == 1 + int((row > logprob).sum())
        assert set(column.metrics) == {
            "tokens",
            "perplexity",
            "distinct_2",
            "repetition",
            "first_token_s",
            "tokens_per_s",
        }


def test_repetition_figures_are_known_values():
    assert metrics.distinct([1, 2, 1, 2, 1], 2) == 0.5
    assert metrics.repetition([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(0.2)
    assert (metrics.distinct([1], 2), metrics.repetition([1, 2]), metrics.perplexity([])) == (1.0, 0.0, None)
