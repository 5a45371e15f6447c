"""Means with bootstrap intervals: how much a measure would vary with other prompts of the same kind."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

RESAMPLES = 2000
LEVEL = 0.95
_SEED = 0


@dataclass(frozen=True)
class Estimate:
    """The mean over `count` values or rows and its 95 % interval; no interval for a single one."""

    mean: float
    low: float | None
    high: float | None
    count: int

    @property
    def clear_of_zero(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    def to_json(self) -> dict[str, float | int | None]:
        return {"mean": _short(self.mean), "low": _short(self.low), "high": _short(self.high), "count": self.count}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "Estimate":
        return cls(facts["mean"], facts["low"], facts["high"], facts["count"])


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def estimate(values: Sequence[float]) -> Estimate | None:
    """Return the mean and its percentile bootstrap interval of 2,000 resamples (Efron 1979); None without values.

    Seeded: the same values give the same interval.
    """
    return ratio(values, [1.0] * len(values))


def ratio(totals: Sequence[float], counts: Sequence[float]) -> Estimate | None:
    """Return the sum of `totals` over the sum of `counts`, such as a loss per token of rows with many tokens each, with
    its percentile bootstrap interval; None without rows.

    Whole rows are resampled, because the tokens of a row are not independent. Seeded by the number of rows alone, so
    two series over the same rows are resampled alike: the ratio of their difference is the paired one.
    """
    if not totals:
        return None
    import numpy

    above, below = (numpy.asarray(values, dtype=numpy.float64) for values in (totals, counts))
    mean = float(above.sum() / below.sum())
    if len(above) < 2:
        return Estimate(mean, None, None, 1)
    picks = _picks(len(above))
    drawn = above[picks].sum(axis=1) / below[picks].sum(axis=1)
    tail = 50 * (1 - LEVEL)
    low, high = numpy.percentile(drawn, [tail, 100 - tail])
    return Estimate(mean, float(low), float(high), len(above))


@lru_cache(maxsize=4)
def _picks(count: int) -> "numpy.ndarray":
    """Return which of `count` values each resample holds: [2000, count]."""
    import numpy

    return numpy.random.default_rng(_SEED).integers(count, size=(RESAMPLES, count))


def paired(values: Sequence[float | None], against: Sequence[float | None]) -> Estimate | None:
    """Return the mean difference `values - against` over the prompts that have both, with its interval."""
    both = [(mine, theirs) for mine, theirs in zip(values, against, strict=True) if mine is not None]
    return estimate([mine - theirs for mine, theirs in both if theirs is not None])
