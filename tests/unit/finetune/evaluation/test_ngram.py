"""The n-gram baseline against Kneser-Ney written down slowly, against nltk's own counts, and as a distribution."""

import math
import random

import pytest
from nltk.lm import KneserNeyInterpolated

from finetune.evaluation.ngram import NgramModel

CORPUS = [[0, 1, 2, 0, 1, 3], [1, 2, 0, 1, 2], [4, 0, 1], [2, 2, 2, 0]]
VOCABULARY = 7


def _model(rows=CORPUS, vocabulary=VOCABULARY, order=3):
    model = NgramModel(vocabulary, order)
    for row in rows:
        model.add(row)
    return model


def _grams(rows, length):
    """Every n-gram of a length, once for each time it stands in the text, with two start marks before each row."""
    marked = [[-1, -1, *row] for row in rows]
    return [tuple(row[end - length : end]) for row in marked for end in range(3, len(row) + 1)]


def _slow(word, context, discount, rows=CORPUS, vocabulary=VOCABULARY):
    """Interpolated Kneser-Ney from its definition: counts for the highest order, different left neighbours below."""
    highest = len(context) == 2
    grams = _grams(rows, 3) if highest else [gram[1:] for gram in set(_grams(rows, len(context) + 2))]
    here = [gram for gram in grams if gram[:-1] == context]
    below = 1 / vocabulary if not context else _slow(word, context[1:], discount, rows, vocabulary)
    if not here:
        return below
    own = sum(gram[-1] == word for gram in here)
    return (max(own - discount, 0) + discount * len({gram[-1] for gram in here}) * below) / len(here)


@pytest.mark.parametrize("context", [(0, 1), (1, 2), (-1, -1), (-1, 4), (3, 0), (6, 6), (2, 2)])
def test_each_probability_is_the_one_of_the_definition(context):
    model = _model()
    for word in range(VOCABULARY):
        assert model.probability(word, context) == pytest.approx(_slow(word, context, model.discount), abs=1e-12)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_the_probabilities_behind_any_context_add_up_to_one(order):
    rows = [[random.Random(seed).randrange(12) for _ in range(9)] for seed in range(20)]
    model = _model(rows, 20, order)
    for context in [(0, 1), (3, 3), (-1, -1), (-1, 5), (19, 19)]:
        assert sum(model.probability(word, context) for word in range(20)) == pytest.approx(1)


def test_the_index_holds_what_nltk_finds_by_searching():
    rows = [[random.Random(seed).randrange(6) for _ in range(12)] for seed in range(8)]
    mine, theirs = _model(rows), KneserNeyInterpolated(3)
    theirs.counts.update([[gram for length in (1, 2, 3) for gram in _grams(rows, length)]])
    mine.probability(0, (0, 0))
    for context in [(), (0,), (3,), (-1,), (5,)]:
        for word in range(6):
            found = mine._model.estimator._continuation_counts(word, context)
            assert found == theirs.estimator._continuation_counts(word, context)


def test_the_discount_comes_from_what_was_seen_once_and_twice():
    grams = _grams(CORPUS, 3)
    once, twice = (sum(grams.count(gram) == times for gram in set(grams)) for times in (1, 2))
    assert _model().discount == once / (once + 2 * twice)
    assert _model([[0, 0, 0, 0]] * 9).discount == 0.75


def test_a_rows_loss_is_that_of_its_labels_and_their_context_crosses_what_is_only_read():
    model, row = _model(), [0, 1, 2, 0]
    expected = -math.log(model.probability(2, (0, 1))) - math.log(model.probability(0, (1, 2)))
    assert model.loss(row, [-100, -100, 2, 0]) == pytest.approx(expected)
    assert model.loss(row, [0, -100, -100, -100]) == 0, "the first token is predicted by nobody"


def test_a_text_it_has_learned_costs_less_than_one_it_has_not():
    model = _model(CORPUS * 10, 500)
    assert model.loss(CORPUS[0], CORPUS[0]) < 0.2 * model.loss([400, 401, 402, 400, 401, 403], [400] * 6)
