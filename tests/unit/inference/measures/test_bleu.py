"""Self-BLEU by counts that are shared, against sacrebleu sentence by sentence."""

import math
import random

import pytest
from sacrebleu.metrics import BLEU

from inference.measures.self_bleu import self_bleu


def by_sacrebleu(samples):
    """The mean of each sample's sentence BLEU against all others, over ids written as words."""
    bleu, texts = BLEU(tokenize="none", effective_order=True), [" ".join(map(str, sample)) for sample in samples]
    scores = [bleu.sentence_score(text, texts[:place] + texts[place + 1 :]).score for place, text in enumerate(texts)]
    return math.fsum(scores) / len(scores) / 100


@pytest.mark.parametrize("seed", range(60))
def test_it_is_what_sacrebleu_says(seed):
    """Texts of 1 to 60 tokens of vocabularies so small that they share much, or so large that they share little; equal
    texts, texts without a match, texts shorter than four tokens."""
    random.seed(seed)
    vocabulary = random.choice([2, 3, 12, 200])
    samples = [
        [random.randrange(vocabulary) for _ in range(random.randint(1, 60))] for _ in range(random.randint(2, 7))
    ]
    if seed % 5 == 0:
        samples.append(list(samples[0]))
    if seed % 7 == 0:
        samples.append([1000 + seed, 2000 + seed])
    assert self_bleu(samples) == pytest.approx(by_sacrebleu(samples), rel=1e-12, abs=1e-15)


def test_the_nearest_length_counts_and_of_two_as_near_the_shorter():
    """Four of four tokens match; the texts beside it have 2 and 6: the shorter one counts, so it is not too short."""
    samples = [[1, 2, 3, 4], [1, 2], [1, 2, 3, 4, 5, 6]]
    assert self_bleu(samples) == pytest.approx(by_sacrebleu(samples), rel=1e-12)


def test_one_text_has_no_others():
    assert self_bleu([[1, 2, 3]]) is None and self_bleu([]) is None
