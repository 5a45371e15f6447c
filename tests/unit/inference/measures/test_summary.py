"""The figures under a comparison, against values worked out by hand."""

import csv
import io
import math
import subprocess
import sys

import pytest

from core.words import say
from inference.events import ColumnResult, Result, TokenView
from inference.measures.summary import MEASURES, agreement, diversity, self_bleu, summarize, to_csv
from tests.rules.source import ROOT


def _column(name, ids, probabilities=(), model="a model", first=0.5):
    tokens = [TokenView("x", token, chance, 1, 0.0, ()) for token, chance in zip(ids, probabilities, strict=False)]
    metrics = {"first_token_s": first}
    return ColumnResult(name, model, list(ids), "", "length", metrics, tokens, row_forwards=2 * len(ids))


def _rows(*columns):
    return summarize(Result("a model", "float32", 3, 9, 1.0, 0.1, list(columns)))


def test_every_row_has_a_name_a_model_and_every_measure():
    (row,) = _rows(_column("greedy", [1, 2, 3, 4], [0.5] * 4))
    assert list(row) == ["name", "model", *(measure.key for measure in MEASURES)]


def test_every_measure_has_a_title_and_a_formula():
    assert all(say(measure.title_key) and measure.formula and measure.digits >= 0 for measure in MEASURES)


def test_likelihood_is_that_of_the_raw_probabilities():
    (row,) = _rows(_column("greedy", [1, 2], [0.5, 0.125]))
    assert row["log_prob"] == pytest.approx(math.log(0.0625))
    assert row["mean_log_prob"] == pytest.approx(math.log(0.25))
    assert row["perplexity"] == pytest.approx(4.0)
    assert (row["tokens"], row["row_forwards"], row["first_token_s"]) == (2, 4, 0.5)


def test_a_token_of_probability_zero_gives_a_finite_figure():
    (row,) = _rows(_column("greedy", [1], [0.0]))
    assert math.isfinite(row["log_prob"]) and math.isfinite(row["perplexity"])


def test_repetition_and_distinct_count_n_grams():
    """1 2 1 2 1: two of five 1-grams, two of four 2-grams, two of three 3-grams, two of two 4-grams are unique."""
    (row,) = _rows(_column("greedy", [1, 2, 1, 2, 1], [0.5] * 5))
    assert (row["distinct_1"], row["distinct_2"], row["rep_4"]) == (0.4, 0.5, 0.0)
    assert row["distinct_3"] == pytest.approx(2 / 3)
    assert row["diversity"] == pytest.approx(1 / 3)


def test_diversity_of_one_token_over_and_over():
    """Six times the same: 1 of 5, 1 of 4 and 1 of 3 n-grams are unique."""
    assert diversity([7] * 6) == pytest.approx(1 / 60)
    assert diversity([1, 2, 3, 4, 5]) == 1.0


def test_agreement_is_over_the_longer_of_the_two():
    assert agreement([1, 2, 3], [1, 9, 3, 4]) == 0.5
    assert agreement([], []) == 1.0


def test_agreement_is_with_the_plain_greedy_column_of_the_same_model():
    greedy, penalised = _column("greedy", [1, 2]), _column("greedy repetition_penalty=1.3", [5, 6])
    drawn, other = _column("sample", [1, 3]), _column("sample model=base", [1, 2], model="another")
    rows = _rows(penalised, drawn, other, greedy)
    assert [row["agreement"] for row in rows] == [0.0, 0.5, None, 1.0]


def test_self_bleu_of_equal_samples_is_one_and_of_strangers_near_zero():
    assert self_bleu([[1, 2, 3, 4, 5]] * 3) == pytest.approx(1.0)
    assert self_bleu([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]) < 0.1
    assert self_bleu([[1, 2, 3]]) is None


def test_self_bleu_is_the_mean_of_hand_counted_precisions():
    """1 2 3 4 5 and 1 2 3 4 6, each against the other: 4/5, 3/4, 2/3 and 1/2 of the n-grams match, none is shorter."""
    expected = (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4)
    assert self_bleu([[1, 2, 3, 4, 5], [1, 2, 3, 4, 6]]) == pytest.approx(expected)


def test_self_bleu_is_over_columns_that_differ_only_in_their_seed():
    one, two = _column("nucleus seed=1", [1, 2, 3, 4, 5]), _column("nucleus top_p=0.9 seed=2", [1, 2, 3, 4, 6])
    rows = _rows(one, two, _column("nucleus top_p=0.8 seed=3", [1, 2, 3, 4, 5]), _column("greedy", [1, 2, 3]))
    assert rows[0]["self_bleu"] == rows[1]["self_bleu"] == pytest.approx(0.2**0.25)
    assert [row["self_bleu"] for row in rows[2:]] == [None, None]


def test_a_column_that_wrote_nothing_has_no_figures():
    failed = ColumnResult("greedy", "a model", [], "", "error", {}, error="broken")
    rows = _rows(failed, _column("sample", [1]))
    assert {rows[0][name] for name in ("perplexity", "distinct_1", "diversity", "agreement")} == {None}
    assert (rows[0]["tokens"], rows[1]["agreement"]) == (0, None)


def test_csv_has_a_header_and_one_line_a_row():
    text = to_csv([{"name": "a, b", "tokens": 3, "rep_4": None}, {"name": "中文", "tokens": -1, "rep_4": 0.5}])
    assert list(csv.reader(io.StringIO(text))) == [
        ["name", "tokens", "rep_4"],
        ["a, b", "3", ""],
        ["中文", "-1", "0.5"],
    ]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_csv_makes_no_text_a_formula(text):
    (_, (cell,)) = csv.reader(io.StringIO(to_csv([{"name": text}]), newline=""))
    assert cell == "'" + text


def test_it_loads_without_torch_and_sacrebleu():
    program = (
        "import sys, inference.measures.summary\n"
        "assert not {'torch', 'transformers', 'sacrebleu', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
