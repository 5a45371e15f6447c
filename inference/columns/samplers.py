"""From a row of logits to a sampled token: the filters of the sampling strategies and the noise they share.

Every filter keeps exactly the tokens that the warper of the same name in transformers keeps. Those sort the whole
vocabulary; here a filter looks at the likely tokens first and sorts all of them only if those do not decide it.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinPLogitsWarper,
    TopHLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

Apply = Callable[[Tensor, Any], Tensor]

_ROUNDING = 2e-6
_REMOVED = float("-inf")
_MOST_BITS = 100.0


class Noise:
    """The random part of a draw, one row per step: exponential noise, as `torch.multinomial` draws it.

    `torch.multinomial(p, 1)` is the argmax of p / q with q exponential and of p's shape. All columns of a comparison
    start from the same seed and draw once per step, so their q is the same row and is made once, by the first column
    that draws.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed = seed
        self._generator = torch.Generator(device).manual_seed(seed)
        self._row = torch.empty(0)
        self._due: list[int] = []

    def next_step(self, vocabulary: int) -> None:
        """Move to the next step, in which rows have `vocabulary` scores; the noise is drawn only when it is used."""
        self._due.append(vocabulary)

    @property
    def row(self) -> Tensor:
        """The noise [1, V] of the step; steps at which no column drew used up theirs, too."""
        for vocabulary in self._due:
            row = torch.empty(1, vocabulary, device=self._generator.device)
            self._row = row.exponential_(1, generator=self._generator)
        self._due.clear()
        return self._row

    def own(self) -> torch.Generator:
        """Return a new generator with the same seed, for a column whose draws have another shape."""
        return torch.Generator(self._generator.device).manual_seed(self.seed)

    def draw(self, probabilities: Tensor) -> int:
        """Return the token that `torch.multinomial(probabilities, 1)` draws at this step; probabilities [1, V]
        float32."""
        return int((probabilities / self.row).argmax(-1))


def top_k(scores: Tensor, count: float) -> Tensor:
    """Keep the `count` likeliest tokens, and those that tie with the last of them (Fan et al. 2018)."""
    least = scores.topk(min(int(count), scores.shape[-1])).values[:, -1:]
    return scores.masked_fill(scores < least, _REMOVED)


def min_p(scores: Tensor, share: float) -> Tensor:
    """Keep tokens with at least `share` of the likeliest one's probability (Nguyen et al. 2024)."""
    probabilities = scores.softmax(-1)
    return scores.masked_fill(probabilities < share * probabilities.amax(-1, keepdim=True), _REMOVED)


def top_p(scores: Tensor, mass: float) -> Tensor:
    """Keep the fewest likeliest tokens whose probabilities reach `mass` (Holtzman et al. 2020)."""
    if scores.device.type == "cpu":
        probabilities = scores.softmax(-1)[0]
        for among in _likely(probabilities):
            removed = _outside_nucleus(scores[0], probabilities, among, mass)
            if removed is not None:
                return scores.masked_fill(removed, _REMOVED)
    return TopPLogitsWarper(mass)(None, scores)


def _likely(probabilities: Tensor) -> Iterator[Tensor]:
    """Yield growing sets of ids, each with all tokens above some probability."""
    peak = probabilities.max()
    for share in (1e-2, 1e-4):
        yield (probabilities >= peak * share).nonzero()[:, 0]


def _outside_nucleus(scores: Tensor, probabilities: Tensor, among: Tensor, mass: float) -> Tensor | None:
    """Return the mask [V] of what top_p removes; None if `among` holds too few tokens or rounding could decide."""
    order = among[scores[among].sort(stable=True).indices]
    masses = probabilities[order].double()
    from_the_top = masses.flip(0).cumsum(0).flip(0)
    above = from_the_top - masses
    if from_the_top[0] <= mass + _ROUNDING or (above - mass).abs().min() < _ROUNDING:
        return None
    kept = above < mass
    if bool((scores[order[~kept]][-1:] == scores[order[kept]][:1]).any()):
        return None  # equal scores on both sides: the order in which transformers sorts them decides
    removed = torch.ones_like(scores, dtype=torch.bool)
    removed[order[kept]] = False
    return removed


def typical(scores: Tensor, mass: float) -> Tensor:
    """Keep the tokens whose surprisal is nearest to the entropy until they reach `mass` (Meister et al. 2022)."""
    if scores.device.type == "cpu":
        logprobs = scores.log_softmax(-1)
        probabilities = logprobs.exp()
        entropy = -(logprobs * probabilities).nansum(-1, keepdim=True)
        distance = (-logprobs - entropy).abs()
        for radius in (0.5, 2.0, 4.0):
            farthest = _typical_radius(distance[0], probabilities[0], radius, mass)
            if farthest is not None:
                return scores.masked_fill(distance > farthest, _REMOVED)
    return TypicalLogitsWarper(mass)(None, scores)


def _typical_radius(distance: Tensor, probabilities: Tensor, radius: float, mass: float) -> Tensor | None:
    """Return how far from the entropy typical_p keeps tokens; None if the tokens within `radius` or rounding leave it
    open."""
    among = (distance <= radius).nonzero()[:, 0]
    if len(among) == 0:
        return None
    ordered, order = distance[among].sort()
    reached = probabilities[among[order]].double().cumsum(0)
    if reached[-1] <= mass + _ROUNDING or (reached - mass).abs().min() < _ROUNDING:
        return None
    return ordered[(reached < mass).sum()]


def top_n_sigma(scores: Tensor, count: float) -> Tensor:
    """Keep tokens whose score is within `count` standard deviations of the highest (Tang et al. 2024).

    The deviation is over the tokens that are not removed yet, so the temperature makes no difference.
    """
    there = scores > _REMOVED
    number = there.sum(-1, keepdim=True)
    mean = scores.masked_fill(~there, 0.0).sum(-1, keepdim=True) / number
    variance = (scores - mean).masked_fill(~there, 0.0).square().sum(-1, keepdim=True) / number
    return scores.masked_fill(scores < scores.amax(-1, keepdim=True) - count * variance.sqrt(), _REMOVED)


@dataclass(frozen=True)
class Filter:
    """How a knob's value removes tokens: from one row by `of_row`; from several rows, each of which must keep some
    tokens, by the warper `of_rows` of transformers. One of the two may be missing."""

    of_row: Callable[[Tensor, float], Tensor] | None = None
    of_rows: Callable[[float, int], Any] | None = None

    def applied(self, value: float, keep: int) -> Apply:
        """Return the filter at a value, keeping at least `keep` tokens."""
        of_row = self.of_row
        if of_row is not None and (keep == 1 or self.of_rows is None):
            return lambda scores, _: of_row(scores, value)
        assert self.of_rows is not None
        warper = self.of_rows(value, keep)
        return lambda scores, ids: warper(ids, scores)


FILTERS = {
    "top_n_sigma": Filter(top_n_sigma),
    "top_h": Filter(of_rows=lambda value, keep: TopHLogitsWarper(value)),
    "top_k": Filter(top_k, lambda value, keep: TopKLogitsWarper(int(value), min_tokens_to_keep=keep)),
    "top_p": Filter(top_p, lambda value, keep: TopPLogitsWarper(value, min_tokens_to_keep=keep)),
    "min_p": Filter(min_p, lambda value, keep: MinPLogitsWarper(value, min_tokens_to_keep=keep)),
    "typical_p": Filter(typical, lambda value, keep: TypicalLogitsWarper(value, min_tokens_to_keep=keep)),
    "epsilon_cutoff": Filter(of_rows=lambda value, keep: EpsilonLogitsWarper(value, min_tokens_to_keep=keep)),
    "eta_cutoff": Filter(of_rows=lambda value, keep: EtaLogitsWarper(value, min_tokens_to_keep=keep)),
}
"""The function of each knob in `FILTERS` of `inference.strategies.table`, which has their order."""


class Xtc:
    """Exclude top choices (text-generation-webui #6335): with `probability`, all tokens at or above `threshold` are
    removed except the least likely of them. Whether it applies is drawn from a separate generator, so that the draws
    stay those of the seed."""

    def __init__(self, probability: float, threshold: float, seed: int) -> None:
        self._probability, self._threshold = probability, threshold
        self._gate = torch.Generator().manual_seed(seed)

    def __call__(self, scores: Tensor) -> Tensor:
        if float(torch.rand((), generator=self._gate)) >= self._probability:
            return scores
        probabilities = scores.softmax(-1)
        top = (probabilities >= self._threshold) & (scores > _REMOVED)
        if int(top.sum()) < 2:
            return scores
        least = probabilities.masked_fill(~top, 2.0).argmin(-1, keepdim=True)
        return scores.masked_fill(top.scatter(-1, least, False), _REMOVED)


class Mirostat:
    """Mirostat 2 (Basu et al. 2021): keep tokens of at most mu bits of surprisal, and adjust mu by the drawn token.

    mu begins at 2 tau and falls by eta times (surprisal of the drawn token - tau). As in the paper, the surprisal is
    that among all tokens; llama.cpp takes it among those that were kept.
    """

    def __init__(self, knobs: Mapping[str, int | float | bool | str]) -> None:
        self._tau, self._eta = float(knobs["mirostat_tau"]), float(knobs["mirostat_eta"])
        self.mu = 2 * self._tau
        self._bits = torch.empty(0)

    def __call__(self, scores: Tensor) -> Tensor:
        self._bits = bits = -scores.log_softmax(-1) / math.log(2)
        least = bits.amin(-1, keepdim=True)
        return scores.masked_fill((bits > self.mu) & (bits > least), _REMOVED)

    def learn(self, token: int) -> None:
        """Adjust mu by a token that was drawn from the scores [1, V] of the last call."""
        self.mu -= self._eta * (min(float(self._bits[0, token]), _MOST_BITS) - self._tau)
