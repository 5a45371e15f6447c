"""How long a run takes: the measurements of a few batches, extrapolated to all batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from finetune.base_models.network import Network
from finetune.plan.rows import Shapes


@dataclass(frozen=True)
class Pace:
    """The seconds that parts of one stage take on one device.

    `points` are measured batches, as padded tokens and seconds, the smallest first; `first` is the extra time of the
    first step, `update` the optimizer's time per step; `held` is the time per padded token of an evaluation, `sample`
    that of an evaluation's samples, `reference` the time per padded token before a preference stage, `checkpoint` that
    of a checkpoint.
    """

    points: tuple[tuple[float, float], ...]
    first: float = 0.0
    update: float = 0.0
    held: float = 0.0
    sample: float = 0.0
    reference: float = 0.0
    checkpoint: float = 0.0

    def batches(self, tokens: np.ndarray) -> np.ndarray:
        """Return the seconds of batches with these numbers of padded tokens: linear between two points, proportional
        below the first and above the last."""
        sizes, times = (np.array(side, dtype=float) for side in zip(*self.points, strict=True))
        found = np.interp(tokens, sizes, times)
        below, above = tokens < sizes[0], tokens > sizes[-1]
        found[below] = tokens[below] / sizes[0] * times[0]
        found[above] = tokens[above] / sizes[-1] * times[-1]
        return found


@dataclass(frozen=True)
class Seconds:
    """The seconds of training steps alone, and of everything else."""

    training: float
    between: float

    @property
    def all(self) -> float:
        return self.training + self.between


def of_stage(shapes: Shapes, pace: Pace, evaluations: int, checkpoints: int) -> Seconds:
    """Return a stage's seconds, from the real shapes of its batches."""
    tokens = (shapes.batches[:, 0] * shapes.batches[:, 1]).astype(float)
    step = float(pace.batches(tokens).mean()) * shapes.accumulation + pace.update
    held = float((shapes.held[:, 0] * shapes.held[:, 1]).sum())
    reference = (held + shapes.padded * shapes.an_epoch) * pace.reference
    between = evaluations * (held * pace.held + pace.sample) + checkpoints * pace.checkpoint + reference
    return Seconds(shapes.steps * step + pace.first, between)


def operations(network: Network, batch: tuple[int, int], learned: float) -> float:
    """Return the additions and multiplications of a batch's forward and backward.

    The forward takes two per weight and token, the gradients of activations as many, those of weights as many for each
    trained weight; attention takes four per layer, token, earlier token and width, three times over.
    """
    tokens = batch[0] * batch[1]
    learns = min(network.trainable / max(network.products, 1), 1.0)
    layers = tokens * network.products * (4 + 2 * learns)
    head = tokens * (learned if network.gathers else 1.0) * network.head * (4 + 2 * learns)
    attention = 6 * tokens * batch[1] * network.width * network.layers
    return layers + head + attention


def due(steps: int, every: int) -> int:
    """Return how often something happens that is done every `every` steps and after the last one."""
    return max(1, -(-steps // every))


def merged(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return measured batches in order, with the median of those of one size."""
    sizes = sorted({tokens for tokens, _ in points})
    return tuple((size, median([seconds for tokens, seconds in points if tokens == size])) for size in sizes)
