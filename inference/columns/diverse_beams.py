"""Diverse beam search: groups of beams that are penalized for choosing the same tokens."""

import torch
from torch import Tensor

from inference.columns.base import ColumnContext, StepInput
from inference.columns.beams import BeamColumn, Hypothesis
from inference.strategies.table import ColumnSpec


class DiverseBeamColumn(BeamColumn):
    """Diverse beam search (Vijayakumar et al. 2016): groups of beams in turn, each of which pays `diversity_penalty`
    for a token as often as earlier groups chose it at this step. Each group is a separate beam search."""

    def __init__(self, spec: ColumnSpec, context: ColumnContext) -> None:
        super().__init__(spec, context)
        self._count = int(spec.knobs["num_groups"])
        self._penalty = float(spec.knobs["diversity_penalty"])
        self.beams //= self._count
        self._groups = [_Group() for _ in range(self._count)]

    def _search(self, inputs: StepInput) -> None:
        scores = self._scores(inputs)
        chosen = torch.zeros_like(scores[0])
        rows_before, all_live = 0, self.live
        parents, tokens = [], []
        for group in self._groups:
            if group.done:
                continue
            first = rows_before if group.live else 0
            count = max(1, len(group.live))
            rows_before += len(group.live)
            if not group.live and all_live:
                group.live = all_live[:1]
            self._advance_group(inputs, scores[first : first + count] - self._penalty * chosen, group, first)
            if not group.done:
                parents += [first + row for row in group.parents]
                tokens += group.tokens
                chosen += torch.bincount(torch.tensor(group.tokens), minlength=len(chosen)).to(chosen)
        self._collect(parents, tokens)

    def _advance_group(self, inputs: StepInput, scores: Tensor, group: "_Group", first: int) -> None:
        """Run one step of one group by applying this column's rules to the group's rows."""
        outside = self.live, self.finished
        self.live, self.finished = group.live, group.finished
        part = StepInput(
            inputs.logits[first:], inputs.logprobs[first:], inputs.distributions[first : first + len(scores)]
        )
        try:
            self._advance(part, self._candidates(part, scores))
            group.live, group.finished = self.live, self.finished
            group.parents, group.tokens, group.done = self.parents, self.tokens, self.finish is not None
        finally:
            self.finish = None
            self.live, self.finished = outside

    def _collect(self, parents: list[int], tokens: list[int]) -> None:
        self.parents, self.tokens = parents, tokens
        self.live = [beam for group in self._groups if not group.done for beam in group.live]
        best_of = [group.finished[0] for group in self._groups if group.finished]
        self.finished = sorted(best_of, key=lambda beam: -beam.score)
        if all(group.done for group in self._groups):
            self._finish()

    def _ranked(self) -> list[Hypothesis]:
        """Return the best hypothesis of each group, in the order of the groups."""
        return [(group.finished or group.live)[0] for group in self._groups if group.finished or group.live]


class _Group:
    """The state of one group of beams."""

    def __init__(self) -> None:
        self.live: list[Hypothesis] = []
        self.finished: list[Hypothesis] = []
        self.parents: list[int] = []
        self.tokens: list[int] = []
        self.done = False
