"""Processors that look back at what is written: penalties, and what may not be written again.

Each takes scores [rows, V] and the ids [rows, length] of prompt and text, and returns new scores.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Penalty = Callable[[Tensor, Tensor], Tensor]


_LONGEST = 50


def presence(penalty: float, prompt_length: int) -> Penalty:
    """Take `penalty` off the score of each token that is written (OpenAI API). The prompt does not count."""
    return lambda scores, ids: scores - penalty * (_counts(scores, ids[:, prompt_length:]) > 0)


def frequency(penalty: float, prompt_length: int) -> Penalty:
    """Take `penalty` off the score of each token as often as it is written (OpenAI API). The prompt does not count."""
    return lambda scores, ids: scores - penalty * _counts(scores, ids[:, prompt_length:])


def _counts(scores: Tensor, written: Tensor) -> Tensor:
    """How often each token stands in its row of `written` [rows, length]: [rows, V]."""
    return torch.zeros_like(scores).scatter_add_(1, written, torch.ones_like(written, dtype=scores.dtype))


def dry(multiplier: float, base: float, allowed: int, breakers: frozenset[int]) -> Penalty:
    """Take `multiplier * base ** (length - allowed)` off each token that would go on with a repetition of `length`
    tokens, where that is at least `allowed` (text-generation-webui #5677). No repetition reaches over a breaker, and
    one of more than `allowed` + 50 tokens counts as one of so many."""

    def apply(scores: Tensor, ids: Tensor) -> Tensor:
        scores = scores.clone()
        for row, sequence in enumerate(ids.tolist()):
            for token, length in repetitions(sequence, breakers, allowed + _LONGEST).items():
                if length >= allowed:
                    scores[row, token] -= multiplier * base ** (length - allowed)
        return scores

    return apply


def repetitions(ids: list[int], breakers: frozenset[int], most: int) -> dict[int, int]:
    """For each token that followed an earlier occurrence of the end of `ids`: how long the longest such end is, as far
    as `most` tokens are looked at (a text that repeats one token would take time squared)."""
    found: dict[int, int] = {}
    if not ids or ids[-1] in breakers:
        return found
    for place in range(len(ids) - 1):
        if ids[place] != ids[-1] or ids[place + 1] in breakers:
            continue
        length = 1
        while length <= place and length < most and ids[place - length] == ids[-1 - length] not in breakers:
            length += 1
        found[ids[place + 1]] = max(found.get(ids[place + 1], 0), length)
    return found
