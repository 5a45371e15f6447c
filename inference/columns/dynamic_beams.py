"""Beam search of dynamic width: fewer hypotheses if the model is certain, more if it is not."""

import math
from dataclasses import replace

from torch import Tensor

from inference.columns.base import ColumnContext, StepInput
from inference.columns.beams import BeamColumn, Candidate
from inference.events import Trace, fixed_row_forwards
from inference.strategies.table import ColumnSpec


class DynamicBeamColumn(BeamColumn):
    """Beam search of variable width (Freitag & Al-Onaizan 2017). Of the candidates of a plain beam search, at most
    `per_node` per hypothesis are kept, those within `prune_absolute` of the best score, and those whose last token is
    at least `prune_local` times as likely as the likeliest last token; of these, finished ones included, the best
    num_beams, or fewer if the model is certain. A narrow beam may grow again.

    With `entropy_width` (nats) the width is 1 + (num_beams - 1) * min(1, entropy / entropy_width), rounded; the entropy
    is that of the best hypothesis. The search ends when no live hypothesis is better than the best finished one.
    """

    def __init__(self, spec: ColumnSpec, context: ColumnContext) -> None:
        super().__init__(spec, context)
        self.widths: list[int] = []

    def step(self, inputs: StepInput) -> None:
        self.widths.append(len(inputs.distributions))
        super().step(inputs)

    @property
    def saved(self) -> int:
        return max(0, fixed_row_forwards(self.widths, self.beams, len(self.start)) - sum(self.widths))

    def _search(self, inputs: StepInput) -> None:
        scores = self._scores(inputs)
        found = self._candidates(inputs, scores)
        good = self._good(inputs, scores, found)
        self._note_pruned([candidate for candidate in found[: 2 * self.beams] if candidate not in good])
        self._advance(inputs, good)

    def _good(self, inputs: StepInput, scores: Tensor, found: list[Candidate]) -> list[Candidate]:
        """Return the candidates that are not pruned; the best one never is."""
        if not found:
            return []
        knobs = self.spec.knobs
        found = _per_node(found, int(knobs["per_node"]))
        least = found[0].score - float(knobs["prune_absolute"])
        last = {candidate: float(scores[candidate.row, candidate.token]) for candidate in found}
        share = float(knobs["prune_local"])
        least_last = max(last.values()) + math.log(share) if share else -math.inf
        good = [candidate for candidate in found if candidate.score >= least and last[candidate] >= least_last]
        return (good or found[:1])[: self._width(inputs)]

    def _width(self, inputs: StepInput) -> int:
        full = float(self.spec.knobs["entropy_width"])
        if not full:
            return self.beams
        return 1 + round((self.beams - 1) * min(1.0, inputs.distributions[0].entropy / full))

    def _can_improve(self) -> bool:
        if not self.finished:
            return True
        return self.early_stopping is not True and self._normed(self.live[0].score) > self.finished[0].score

    def trace(self) -> Trace:
        return replace(super().trace(), widths=tuple(self.widths))


def _per_node(found: list[Candidate], most: int) -> list[Candidate]:
    taken: dict[int, int] = {}
    kept = []
    for candidate in found:
        taken[candidate.row] = taken.get(candidate.row, 0) + 1
        if taken[candidate.row] <= most:
            kept.append(candidate)
    return kept
