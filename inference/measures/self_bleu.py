"""BLEU of each text of a group against all others, on token ids.

The n-grams of every text are counted once: the most that the other texts have of an n-gram is the greatest count in the
group, or the second greatest if the text itself has the greatest. So a group of m texts costs m counts, not m * (m -
1).
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

ORDER = 4
Gram = tuple[int, ...]


def self_bleu(samples: Sequence[Sequence[int]]) -> float | None:
    """Return the mean over samples of BLEU-4 (0 to 1) of each against all others (Papineni et al. 2002; Zhu et al.
    2018).

    As sacrebleu scores a sentence: orders for which a text is too short are left out, and for the k-th order without a
    match 1 / 2^k of a match is counted (Chen & Cherry 2014, method 3). None for fewer than two samples.
    """
    if len(samples) < 2:
        return None
    counts = [[Counter(_grams(sample, n)) for n in range(1, ORDER + 1)] for sample in samples]
    best = [_two_greatest([count[n] for count in counts]) for n in range(ORDER)]
    lengths = [len(sample) for sample in samples]
    scores = []
    for index, length in enumerate(lengths):
        other_lengths = [*lengths[:index], *lengths[index + 1 :]]
        matched = [_matched(index, counts[index][n], *best[n]) for n in range(ORDER)]
        nearest = min(other_lengths, key=lambda candidate: (abs(candidate - length), candidate))
        scores.append(_bleu(matched, length, nearest))
    return math.fsum(scores) / len(scores)


def _grams(sample: Sequence[int], n: int) -> Iterator[Gram]:
    return zip(*(sample[start:] for start in range(n)), strict=False)


def _two_greatest(counts: Sequence[Counter[Gram]]) -> tuple[dict[Gram, tuple[int, int]], dict[Gram, int]]:
    """Return, for each n-gram, its greatest count with the index of the text that has it, and the greatest among the
    others."""
    first: dict[Gram, tuple[int, int]] = {}
    second: dict[Gram, int] = {}
    for index, count in enumerate(counts):
        for gram, times in count.items():
            known = first.get(gram)
            if known is None:
                first[gram] = times, index
            elif times > known[0]:
                first[gram], second[gram] = (times, index), known[0]
            elif times > second.get(gram, 0):
                second[gram] = times
    return first, second


def _matched(
    index: int, own: Counter[Gram], first: dict[Gram, tuple[int, int]], second: dict[Gram, int]
) -> tuple[int, int]:
    """Return how many of a text's n-grams occur in others, each at most as often as in one of them; and how many it
    has."""
    matched = 0
    for gram, times in own.items():
        greatest, holder = first[gram]
        matched += min(times, second.get(gram, 0) if holder == index else greatest)
    return matched, own.total()


def _bleu(orders: Sequence[tuple[int, int]], length: int, reference: int) -> float:
    """Return BLEU from (matched, all) of each order and the length of the nearest other text."""
    if not any(matched for matched, _ in orders):
        return 0.0
    logs, missed = [], 0
    for matched, total in orders:
        if not total:
            break
        missed += not matched
        logs.append(math.log(matched / total if matched else 1 / (2**missed * total)))
    brevity = min(0.0, 1 - reference / length)
    return math.exp(brevity + math.fsum(logs) / len(logs))
