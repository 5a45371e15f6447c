"""How long a run takes: what was measured on a few batches, carried over to all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from finetune.base_models.network import Network
from finetune.plan.rows import Shapes


@dataclass(frozen=True)
class Pace:
    """Seconds of one stage on one device.

    `points` are batches that were measured, as padded tokens and seconds, the smallest first; `first` is what a first
    step takes beyond that, `update` what the optimizer takes once a step; `held` are the seconds a padded token takes
    to be measured, `sample` those of the samples of an evaluation, `reference` those a padded token takes before a
    preference stage, `checkpoint` those of a checkpoint.
    """

    points: tuple[tuple[float, float], ...]
    first: float = 0.0
    update: float = 0.0
    held: float = 0.0
    sample: float = 0.0
    reference: float = 0.0
    checkpoint: float = 0.0

    def batches(self, tokens: np.ndarray) -> np.ndarray:
        """Seconds of batches with so many padded tokens: between two points along the line that joins them, below the
        first and above the last in proportion."""
        places, times = (np.array(side, dtype=float) for side in zip(*self.points, strict=True))
        found = np.interp(tokens, places, times)
        below, above = tokens < places[0], tokens > places[-1]
        found[below] = tokens[below] / places[0] * times[0]
        found[above] = tokens[above] / places[-1] * times[-1]
        return found


@dataclass(frozen=True)
class Seconds:
    """Seconds of training steps alone, and of everything in between."""

    training: float
    between: float

    @property
    def all(self) -> float:
        return self.training + self.between


def of_stage(shapes: Shapes, pace: Pace, evaluations: int, checkpoints: int) -> Seconds:
    """A stage's seconds, from its batches as they really are."""
    tokens = (shapes.batches[:, 0] * shapes.batches[:, 1]).astype(float)
    step = float(pace.batches(tokens).mean()) * shapes.accumulation + pace.update
    held = float((shapes.held[:, 0] * shapes.held[:, 1]).sum())
    reference = (held + shapes.padded * shapes.an_epoch) * pace.reference
    between = evaluations * (held * pace.held + pace.sample) + checkpoints * pace.checkpoint + reference
    return Seconds(shapes.steps * step + pace.first, between)


def operations(network: Network, batch: tuple[int, int], learned: float) -> float:
    """Multiplications and additions of a batch's forward and backward.

    A forward takes two a weight and token, the gradients of activations as many, those of weights as many for each
    weight that learns; attention takes four a layer, token, token before it and number of width, three times over.
    """
    tokens = batch[0] * batch[1]
    learns = min(network.trainable / max(network.products, 1), 1.0)
    layers = tokens * network.products * (4 + 2 * learns)
    head = tokens * (learned if network.gathers else 1.0) * network.head * (4 + 2 * learns)
    attention = 6 * tokens * batch[1] * network.width * network.layers
    return layers + head + attention


def due(steps: int, every: int) -> int:
    """How often something comes that is done at each `every`-th step and after the last one."""
    return max(1, -(-steps // every))


def merged(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Measured batches in order, the median of those of one size."""
    sizes = sorted({tokens for tokens, _ in points})
    return tuple((size, median([seconds for tokens, seconds in points if tokens == size])) for size in sizes)
