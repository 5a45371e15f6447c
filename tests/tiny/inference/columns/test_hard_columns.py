"""Columns at their edges, fed with logits by hand: few tokens, none left, fewer hypotheses than beams, failures."""

import math

import pytest
import torch

from core.errors import UserError
from inference.columns.base import ColumnContext, Hidden, StepInput
from inference.columns.contrastive import DolaColumn
from inference.columns.factory import make_column
from inference.columns.samplers import Noise
from inference.engine.batch import distributions_of
from inference.strategies.table import STRATEGIES, parse_column, parse_columns
from tests.tiny.decoding import load_tiny, run, run_ids

pytestmark = pytest.mark.matrix

NEVER = -math.inf
BEAMS = ["beam", "beam_sample", "diverse_beam", "dynamic_beam"]
BANS = [[token] for token in range(5)]


def _hidden(rows, vocabulary):
    states = torch.eye(8)[torch.arange(rows * 3) % 8].reshape(rows, 3, 8)
    return Hidden([states] * 3, list(range(rows)), torch.nn.Linear(8, vocabulary))


def _seen(*rows):
    logits = torch.tensor(rows, dtype=torch.float32)
    logprobs = logits.log_softmax(-1)
    return StepInput(logits, logprobs, distributions_of(logprobs), _hidden(len(rows), logits.shape[-1]))


def _column(line, ends=(), limit=6, **more):
    context = ColumnContext(frozenset(ends), limit, Noise(0, torch.device("cpu")), prompt_ids=[1], layers=2, **more)
    return make_column(parse_column(line), context)


def _step(column, *rows):
    column.context.noise.next_step(len(rows[0]))
    with torch.no_grad():
        column.step(_seen(*rows))


def _rows(column, row):
    """The row for each that the column looks at."""
    return [row] * len(column.row_models())


def _ids(column):
    return [written.token_id for written in column.written()]


@pytest.mark.parametrize("key", STRATEGIES)
def test_a_vocabulary_smaller_than_beams_and_candidates_does(key):
    """Three tokens, of which one ends, for up to eight beams."""
    column = _column(key, ends=(2,))
    while column.finish is None:
        _step(column, *_rows(column, [2.0, 1.0, 0.0]))
        assert len(column.tokens) == len(column.parents) <= column.spec.rows
    assert column.finish in ("eos", "length")
    assert 0 < len(_ids(column)) <= 6


@pytest.mark.parametrize("key", STRATEGIES)
def test_where_nothing_is_left_that_is_said(key):
    column = _column(key, banned=BANS)
    with pytest.raises(UserError, match="No token is left"):
        while column.finish is None:
            _step(column, *_rows(column, [0.0, 1.0, 2.0, 3.0, 4.0]))
    column.stop("error")
    assert _ids(column) == []
    assert column.drain() == ([], [])


@pytest.mark.parametrize("key", STRATEGIES)
def test_only_what_is_left_is_written(key):
    """All but one token are banned, so there are fewer candidates than beams, and fewer than a contrast offers."""
    column = _column(key, banned=BANS[:4])
    while column.finish is None:
        _step(column, *_rows(column, [9.0, 1.0, 2.0, 3.0, -4.0]))
    assert _ids(column) == [4] * 6


def test_a_plausible_set_that_is_banned_whole_gives_way_to_the_next():
    """One token is far above all others, and banned: without it the others are plausible."""
    for line in ("dola plausibility=0.9", "contrast plausibility=0.9"):
        column = _column(line, banned=[[2]])
        _step(column, *_rows(column, [0.0, 1.0, 50.0, 3.0, 2.99]))
        assert _ids(column)[0] in (3, 4)


@pytest.mark.parametrize("strength", [0, 1])
def test_a_token_that_is_impossible_to_the_base_leaves_numbers(strength):
    column = _column(f"contrast plausibility=0 strength={strength}")
    _step(column, [0.0, 1.0, 2.0, 3.0, NEVER], [0.0, 1.0, NEVER, 3.0, NEVER])
    assert _ids(column) == [2 if strength else 3]
    written = column.written()[0].choice
    assert written.kept == 4
    assert all(math.isfinite(value) for value in (written.own, *written.after))


def test_beams_go_on_with_fewer_hypotheses_and_grow_again():
    """A stop text can end more candidates than there are end tokens."""
    column = _column("beam num_beams=4", limit=9, stopped=lambda ids: ids[-1] >= 2)
    _step(column, [5.0, 4.0, *[0.0] * 7])
    assert (column.tokens, column.parents) == ([0, 1], [0, 0])
    _step(column, *[[9.0, 8.5, *[-9.0] * 7]] * 2)
    assert (column.tokens, column.parents) == ([0, 1, 0, 1], [0, 0, 1, 1])


def test_beams_of_which_all_end_are_done():
    for key in BEAMS:
        column = _column(key, stopped=lambda ids: True)
        _step(column, [0.0, 1.0, 2.0, 3.0])
        assert column.finish == "stop"
        assert len(_ids(column)) == 1


def test_a_dynamic_beam_gets_narrow_where_the_model_is_sure_and_grows_again():
    column = _column("dynamic_beam num_beams=4 entropy_width=1.3 per_node=4 prune_absolute=50 prune_local=0", limit=9)
    sure, unsure = [20.0, 0.0, 0.0, 0.0, 0.0], [1.0, 1.1, 1.2, 1.3, 1.4]
    widths = []
    for row in (unsure, sure, unsure, sure, sure, unsure):
        _step(column, *_rows(column, row))
        widths.append(len(column.tokens))
    assert widths == [4, 1, 4, 1, 1, 4]
    assert column.trace().widths == (1, 4, 1, 4, 1, 1)
    assert any(branch.state == "pruned" for branch in column.trace().branches)


def test_groups_that_are_done_leave_their_rows_and_the_others_go_on():
    """The first group takes the end token; the second pays so much for it that it goes on."""
    column = _column("diverse_beam num_beams=2 num_groups=2 diversity_penalty=9", ends=(0,), limit=5)
    _step(column, [0.0, 5.0, 4.0, 1.0])
    assert (column.tokens, column.parents) == ([1, 2], [0, 0])
    _step(column, [9.0, 0.0, 0.0, 0.0], [0.0, 0.0, 3.0, 2.0])
    assert (column.tokens, column.parents) == ([2], [1])
    assert column.finish is None
    _step(column, [0.0, 0.0, 0.0, 6.0])
    assert (column.tokens, column.parents) == ([3], [0])
    _step(column, [9.0, 0.0, 0.0, 0.0])
    assert column.finish == "eos"
    assert [list(ids) for _, ids in column.trace().others] == [[1, 0], [2, 2, 3, 0]]


def test_a_diverse_beam_that_fails_in_a_group_keeps_its_hypotheses_in_order():
    column = _column("diverse_beam num_beams=4 num_groups=2 diversity_penalty=5", limit=9)
    row = [1.0, 2.0, 3.0, 0.0, 0.5]
    _step(column, row)
    _step(column, *[row] * 4)
    before = _ids(column)
    calls = []

    def break_in_the_second_group(*_):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("broken")
        return original(*_)

    original, column._advance = column._advance, break_in_the_second_group
    with pytest.raises(RuntimeError):
        _step(column, *[row] * 4)
    column.stop("error")
    assert _ids(column) == before
    column.drain()
    assert (column.tokens, column.parents) == ([], [])


def test_the_candidate_layers_of_dola_leave_out_what_only_repeats_the_last_token():
    def layers(count, tied, half):
        context = ColumnContext(frozenset(), 5, Noise(0, torch.device("cpu")), layers=count, tied=tied)
        return DolaColumn(parse_column(f"dola layers={half}"), context)._layers()

    assert layers(2, True, "low") == [1]
    assert layers(1, True, "low") == layers(1, False, "high") == [0]
    assert layers(30, True, "low") == list(range(2, 15, 2))
    assert layers(30, True, "high") == list(range(15, 30, 2))
    assert layers(64, False, "high") == list(range(44, 64, 2))


# In a batch ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load_tiny(tiny_model, end_ids=[31, 54, 71, 125, 182])


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize("key", STRATEGIES)
def test_a_column_that_breaks_at_any_step_leaves_the_others_as_they_are(loaded, monkeypatch, key, step):
    from inference.engine import batch

    others = ["greedy", "beam", "contrastive", "diverse_beam", "sample"]
    expected = [column.token_ids for column in run(loaded, "hello", others, max_new_tokens=10).columns]
    made = batch.make_column

    def make(spec, context):
        column = made(spec, context)
        if spec.name == f"{key} start=7,8":
            whole = column._choose

            def choose(inputs):
                if len(steps) == step:
                    raise RuntimeError("broken")
                steps.append(1)
                whole(inputs)

            column._choose = choose
        return column

    steps = []
    monkeypatch.setattr(batch, "make_column", make)
    lines = [*others[:2], f"{key} start=7,8", *others[2:]]
    columns = run(loaded, "hello", lines, max_new_tokens=10).columns
    broken = columns.pop(2)
    assert [column.token_ids for column in columns] == expected
    assert broken.finish == "error" and "RuntimeError" in broken.error
    assert broken.token_ids == [7, 8, *broken.token_ids[2:]][: len(broken.token_ids)]


def test_bans_that_leave_nothing_end_their_column_with_a_sentence_and_no_other(loaded):
    """No token twice, in a text longer than the vocabulary."""
    prompt = list(range(300))
    lines = ["greedy no_repeat_ngram_size=1", "beam no_repeat_ngram_size=1 num_beams=2", "greedy"]
    plain = load_tiny(loaded.model.name_or_path, end_ids=[])
    columns = run_ids(plain, prompt, parse_columns(lines), seed=0, max_new_tokens=40).columns
    assert columns[0].finish == "error"
    assert "no_repeat_ngram_size" in columns[0].error
    assert sorted(columns[0].token_ids) == list(range(300, 320))
    assert len(columns[2].token_ids) == 40
    assert len(set(columns[1].token_ids)) == len(columns[1].token_ids)
