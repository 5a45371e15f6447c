"""Columns fed with logits by hand, without a model."""

import pytest
import torch

from core.errors import UserError
from inference.columns.base import ColumnContext, StepInput
from inference.columns.factory import make_column
from inference.columns.samplers import Noise
from inference.engine.batch import distributions_of
from inference.strategies.table import parse_column


def _seen(*rows):
    logits = torch.tensor(rows, dtype=torch.float32)
    logprobs = logits.log_softmax(-1)
    return StepInput(logits, logprobs, distributions_of(logprobs))


def _column(line, ends=(0,), limit=5, **more):
    return make_column(parse_column(line), ColumnContext(frozenset(ends), limit, Noise(0, torch.device("cpu")), **more))


def _ids(written):
    return [token.token_id for token in written]


def test_greedy_takes_the_likeliest_until_its_end_token():
    column = _column("greedy")
    column.step(_seen([0.0, 1.0, 3.0, 2.0]))
    assert (column.tokens, column.parents, column.finish) == ([2], [0], None)
    column.step(_seen([9.0, 1.0, 3.0, 2.0]))
    assert (column.tokens, column.parents, column.finish) == ([], [], "eos")
    assert _ids(column.written()) == [2, 0]
    assert column.written()[0].distribution.top_ids == [2, 3, 1, 0]


def test_a_column_ends_at_its_limit():
    column = _column("greedy", limit=1)
    column.step(_seen([0.0, 1.0, 3.0, 2.0]))
    assert column.finish == "length"


def test_beams_fork_from_the_first_row_and_the_firm_part_is_what_they_share():
    column = _column("beam num_beams=2", ends=(), limit=4)
    column.step(_seen([0.0, 2.0, 3.0, 0.0, 0.0]))
    assert (column.tokens, column.parents) == ([2, 1], [0, 0])
    assert tuple(map(_ids, column.drain())) == ([], [2])
    column.step(_seen([0.0, 0.0, 0.0, 9.0, 8.0], [0.0, 0.0, 0.0, 0.1, 0.0]))
    assert (column.tokens, column.parents) == ([3, 4], [0, 0])
    assert tuple(map(_ids, column.drain())) == ([2], [3])
    column.step(_seen([0.0, 0.0, 0.0, 0.0, 0.0], [9.0, 0.0, 0.0, 0.0, 0.0]))
    assert (column.tokens[0], column.parents[0]) == (0, 1)
    assert tuple(map(_ids, column.drain())) == ([], [4, 0])


def test_a_finished_hypothesis_holds_back_what_is_firm_and_can_win():
    column = _column("beam num_beams=2 early_stopping=true", ends=(0,), limit=9)
    column.step(_seen([4.5, 5.0, 3.0, 0.0, 0.0]))
    assert column.tokens == [1, 2]
    column.step(_seen([0.0, 0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]))
    firm, draft = column.drain()
    assert (_ids(firm), _ids(draft)) == ([], [1, 2])
    column.step(_seen([9.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]))
    assert column.finish == "eos"
    assert _ids(column.written()) == [1, 2, 0]
    assert _ids(column.drain()[0]) == [1, 2, 0]


@pytest.mark.parametrize("line", ["greedy", "beam", "sample", "nucleus"])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(line, wrong):
    with pytest.raises(UserError, match="no longer finite numbers"):
        _column(line).step(_seen([0.0, wrong, 1.0, 2.0] + [0.0] * 8))


def test_a_stopped_column_keeps_what_it_wrote():
    for line in ("greedy", "beam num_beams=2"):
        column = _column(line, ends=())
        column.step(_seen([0.0, 1.0, 3.0, 2.0]))
        column.stop("cancelled")
        assert (_ids(column.written()), column.finish, column.tokens) == ([2], "cancelled", [])
