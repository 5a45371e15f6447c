"""Processors that look back at what is written: penalties, and what may not be written again.

Each takes scores [rows, V] and the ids [rows, length] of prompt and text, and returns new scores.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Penalty = Callable[[Tensor, Tensor], Tensor]


def presence_and_frequency(presence: float, frequency: float, prompt_length: int) -> Penalty:
    """Take `presence` off the score of each token that is written, and `frequency` for each time it is (OpenAI API).

    The prompt does not count.
    """

    def apply(scores: Tensor, ids: Tensor) -> Tensor:
        written = ids[:, prompt_length:]
        counts = torch.zeros_like(scores).scatter_add_(1, written, torch.ones_like(written, dtype=scores.dtype))
        return scores - presence * (counts > 0) - frequency * counts

    return apply


def dry(multiplier: float, base: float, allowed: int, breakers: frozenset[int]) -> Penalty:
    """Take `multiplier * base ** (length - allowed)` off each token that would go on with a repetition of `length`
    tokens, where that is at least `allowed` (text-generation-webui #5677). No repetition reaches over a breaker."""

    def apply(scores: Tensor, ids: Tensor) -> Tensor:
        scores = scores.clone()
        for row, sequence in enumerate(ids.tolist()):
            for token, length in repetitions(sequence, breakers).items():
                if length >= allowed:
                    scores[row, token] -= multiplier * base ** min(length - allowed, 64)
        return scores

    return apply


def repetitions(ids: list[int], breakers: frozenset[int]) -> dict[int, int]:
    """For each token that followed an earlier occurrence of the end of `ids`: how long the longest such end is."""
    found: dict[int, int] = {}
    if not ids or ids[-1] in breakers:
        return found
    for place in range(len(ids) - 1):
        if ids[place] != ids[-1] or ids[place + 1] in breakers:
            continue
        length = 1
        while length <= place and ids[place - length] == ids[-1 - length] and ids[-1 - length] not in breakers:
            length += 1
        found[ids[place + 1]] = max(found.get(ids[place + 1], 0), length)
    return found
