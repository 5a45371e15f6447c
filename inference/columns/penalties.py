"""Processors that look at the text so far: penalties and repetition.

Each takes scores [rows, V] and the ids [rows, length] of prompt and text, and returns new scores.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Penalty = Callable[[Tensor, Tensor], Tensor]


_LONGEST = 50


def presence(penalty: float, prompt_length: int) -> Penalty:
    """Return a processor that subtracts `penalty` from the score of each token in the text (OpenAI API). The prompt
    does not count."""
    return lambda scores, ids: scores - penalty * (_counts(scores, ids[:, prompt_length:]) > 0)


def frequency(penalty: float, prompt_length: int) -> Penalty:
    """Return a processor that subtracts `penalty` from the score of each token per occurrence in the text (OpenAI API).
    The prompt does not count."""
    return lambda scores, ids: scores - penalty * _counts(scores, ids[:, prompt_length:])


def _counts(scores: Tensor, written: Tensor) -> Tensor:
    """Return how often each token occurs in its row of `written` [rows, length]: [rows, V]."""
    return torch.zeros_like(scores).scatter_add_(1, written, torch.ones_like(written, dtype=scores.dtype))


def dry(multiplier: float, base: float, allowed: int, breakers: frozenset[int]) -> Penalty:
    """Return a processor that subtracts `multiplier * base ** (length - allowed)` from the score of each token that
    would extend a repetition of `length` tokens, if `length` is at least `allowed` (text-generation-webui #5677). No
    repetition extends over a sequence breaker, and one of more than `allowed` + 50 tokens counts as one of that
    many."""

    def apply(scores: Tensor, ids: Tensor) -> Tensor:
        scores = scores.clone()
        for row, sequence in enumerate(ids.tolist()):
            for token, length in repetitions(sequence, breakers, allowed + _LONGEST).items():
                if length >= allowed:
                    scores[row, token] -= multiplier * base ** (length - allowed)
        return scores

    return apply


def repetitions(ids: list[int], breakers: frozenset[int], most: int) -> dict[int, int]:
    """Return, for each token that followed an earlier occurrence of a suffix of `ids`, the length of the longest such
    suffix, up to `most` tokens (without a limit, a text that repeats one token would take quadratic time)."""
    found: dict[int, int] = {}
    if not ids or ids[-1] in breakers:
        return found
    for position in range(len(ids) - 1):
        if ids[position] != ids[-1] or ids[position + 1] in breakers:
            continue
        length = 1
        while length <= position and length < most and ids[position - length] == ids[-1 - length] not in breakers:
            length += 1
        found[ids[position + 1]] = max(found.get(ids[position + 1], 0), length)
    return found
