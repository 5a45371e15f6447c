"""Where a column and `generate` diverge, and whether that is a numerical tie by the scores of `generate` itself.

A watch is one of the logits processors of `generate` while it runs. For a column that generates one token at a time it
keeps the scores at the first difference. For beams it runs a search of ours on the scores that `generate` sees: that
must lead to what `generate` wrote, so that rounding alone can explain the difference; then the two searches are
compared step by step.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import LogitsProcessor

from inference.columns.base import ColumnContext, StepInput, TokenDistribution
from inference.columns.beams import BeamColumn, Candidate
from inference.columns.chain import chain_of
from inference.columns.samplers import Noise
from inference.engine import stops
from inference.engine.batch import end_ids
from inference.events import Branch, ColumnResult
from inference.models.loading import Loaded
from inference.strategies.table import ColumnSpec

# A tie: |s(ours) - s(theirs)| < TIE. s of a token is log p; of a drawn one log p - log q with q ~ Exp(1), since the
# draw is argmax p / q; of a hypothesis its sum of log p, once finished over length ^ length_penalty.
TIE = 1e-3
_APPLIED_BEFORE = ("repetition_penalty", "no_repeat_ngram_size", "banned", "start")
_NOTHING = TokenDistribution([], [0.0], 0.0)


@dataclass(frozen=True)
class FirstDifference:
    """The first step at which the choices differ, with the scores that `generate` gave to both (None if it gave none:
    one text merely continues, or the choice was far out of reach)."""

    at: int
    ours: float | None = None
    theirs: float | None = None

    @property
    def distance(self) -> float:
        """The absolute difference of the two scores."""
        return math.inf if self.ours is None or self.theirs is None else abs(self.ours - self.theirs)

    @property
    def tied(self) -> bool:
        return self.distance < TIE


def watch(
    loaded: Loaded, prompt_ids: list[int], spec: ColumnSpec, column: ColumnResult, *, seed: int, limit: int
) -> "SingleWatch | BeamWatch":
    """Return the logits processor to watch `generate` with while it runs a column again."""
    bare = replace(spec, knobs={name: value for name, value in spec.knobs.items() if name not in _APPLIED_BEFORE})
    stopped = stops.stop_check(loaded.tokenizer, spec.texts("stop"))
    rest = None if stopped is None else lambda ids: stopped(spec.start + ids)
    noise = Noise(seed, torch.device(loaded.device))
    context = ColumnContext(end_ids(loaded.model), limit - len(spec.start), noise, prompt_ids + spec.start, rest)
    kind = BeamWatch if spec.kind == "beam" else SingleWatch
    return kind(bare, context, column, spec.start)


class SingleWatch(LogitsProcessor):
    """Keeps the scores of the last step before which `generate` had written what the column wrote."""

    def __init__(self, spec: ColumnSpec, context: ColumnContext, column: ColumnResult, start: list[int]) -> None:
        self._spec, self._context, self._start = spec, context, start
        self._ours = column.token_ids
        self._begin = len(context.prompt_ids)
        self._together = True
        self._scores = torch.empty(0)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        at = input_ids.shape[-1] - self._begin + len(self._start)
        if at > len(self._start):
            same = at <= len(self._ours) and int(input_ids[0, -1]) == self._ours[at - 1]
            self._together = self._together and same
        if self._together:
            self._scores = scores.clone()
        return scores

    def first_difference(self, theirs: list[int]) -> FirstDifference:
        """Return where the texts diverge, with the log-probabilities of both tokens; for draws minus the logarithm of
        their noise: the token with the greater difference is drawn."""
        at = _differing_index(self._ours, theirs)
        if at < len(self._start) or at >= min(len(self._ours), len(theirs)):
            return FirstDifference(at)
        ours, theirs_ = self._ours[at], theirs[at]
        if not self._spec.draws:
            return FirstDifference(at, float(self._scores[0, ours]), float(self._scores[0, theirs_]))
        for _ in range(at + 1):
            self._context.noise.next_step(self._scores.shape[-1])
        reached = self._reached(self._scores)
        if not math.isfinite(reached[ours]):
            reached = self._reached(self._nudged(ours, theirs_))
        return FirstDifference(at, _finite(reached[ours]), _finite(reached[theirs_]))

    def _reached(self, scores: Tensor) -> Tensor:
        """Return the values that a draw compares [V]."""
        kept = chain_of(self._spec, self._context)(scores, [[]])
        return (kept.log_softmax(-1) - self._context.noise.row.log())[0]

    def _nudged(self, ours: int, theirs: int) -> Tensor:
        """Return the scores shifted by a tie in favor of the column's token, to see whether the edge of a truncation is
        that near."""
        scores = self._scores.clone()
        scores[0, ours] += TIE / 2
        scores[0, theirs] -= TIE / 2
        return scores


class BeamWatch(LogitsProcessor):
    """Runs a beam search of ours on the scores of `generate`."""

    def __init__(self, spec: ColumnSpec, context: ColumnContext, column: ColumnResult, start: list[int]) -> None:
        self._search = _RecordedSearch(spec, context)
        self._begin = len(context.prompt_ids)
        self._ours, self._start = column, start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._search.finish is None:
            rows = self._rows(input_ids[:, self._begin :].tolist())
            if rows is None:
                self._search.stop("error")
            else:
                self._search.step(StepInput(scores[rows], scores[rows], [_NOTHING] * len(rows)))
        return scores

    def _rows(self, written: list[list[int]]) -> list[int] | None:
        """Return the row behind each of our hypotheses; None if `generate` does not follow one of them."""
        if not self._search.live:
            return [0]
        wanted = [beam.node.ids() for beam in self._search.live]
        return [written.index(ids) for ids in wanted] if all(ids in written for ids in wanted) else None

    def first_difference(self, theirs: list[int]) -> FirstDifference:
        """Return the first step at which other hypotheses were kept, or the final choice, with the scores of both."""
        at = _differing_index(self._ours.token_ids, theirs)
        own = [written.token_id for written in self._search.written()]
        if self._search.finish not in ("eos", "length", "stop") or self._start + own != theirs:
            return FirstDifference(at)
        first = len(self._start)
        ours, reference = _kept(self._ours.trace.branches), _kept(self._search.trace().branches)
        ours = [{(path[first:], state) for path, state in step} for step in ours[first:]]
        for step, (our_step, their_step) in enumerate(zip(ours, reference, strict=False)):
            if our_step != their_step:
                ours_alone, theirs_alone = our_step - their_step, their_step - our_step
                return self._search.steps[step].first_difference(first + step, ours_alone, theirs_alone)
        if len(ours) != len(reference):
            step = min(len(ours), len(reference)) - 1
            return FirstDifference(first + step, *self._search.steps[step].continuation_scores)
        return FirstDifference(at, *self._final(tuple(self._ours.token_ids[first:]), tuple(own)))

    def _final(self, ours: tuple[int, ...], theirs: tuple[int, ...]) -> tuple[float | None, float | None]:
        scores = {tuple(beam.node.ids()): beam.score for beam in self._search.finished}
        return scores.get(ours), scores.get(theirs)


FollowedPaths = set[tuple[tuple[int, ...], str]]


@dataclass(frozen=True)
class _SearchStep:
    """One step of a search: the scores of its candidates by their tokens and, for draws, the values they were drawn by
    (the greatest are drawn); and the two numbers that decided whether to continue."""

    scores: dict[tuple[int, ...], float]
    drawn_by: dict[tuple[int, ...], float]
    continuation_scores: tuple[float | None, float | None]

    def first_difference(self, at: int, ours: FollowedPaths, theirs: FollowedPaths) -> FirstDifference:
        """Return the difference between what only one of both kept: the nearest pair of scores, or of values that
        decided the draw."""
        nearest = [self._nearest(at, values, ours, theirs) for values in (self.scores, self.drawn_by)]
        return min(nearest, key=lambda difference: difference.distance)

    def _nearest(
        self, at: int, values: dict[tuple[int, ...], float], our_steps: FollowedPaths, their_steps: FollowedPaths
    ) -> FirstDifference:
        our_paths, their_paths = _paths(our_steps), _paths(their_steps)
        if not (our_paths | their_paths) <= set(values):
            return FirstDifference(at)
        our_paths, their_paths = our_paths or set(values) - their_paths, their_paths or set(values) - our_paths
        different = ((ours, theirs) for ours in our_paths for theirs in their_paths if ours != theirs)
        pairs = ((values[ours], values[theirs]) for ours, theirs in different)
        return FirstDifference(at, *min(pairs, key=lambda pair: abs(pair[0] - pair[1]), default=(None, None)))


class _RecordedSearch(BeamColumn):
    """A beam search that records the values it decided by."""

    def __init__(self, spec: ColumnSpec, context: ColumnContext) -> None:
        super().__init__(spec, context)
        self.steps: list[_SearchStep] = []
        self._drawn_by: dict[int, float] = {}

    def _advance(self, inputs: StepInput, best: list[Candidate]) -> None:
        rows = [tuple(beam.node.ids()) for beam in self.live] or [()]
        paths = {(*rows[candidate.row], candidate.token): candidate for candidate in best}
        size = inputs.logits.shape[-1]
        drawn = {path: self._drawn_by.get(candidate.row * size + candidate.token) for path, candidate in paths.items()}
        super()._advance(inputs, best)
        continuation = (self._normed(self.live[0].score), self.finished[-1].score) if self.finished else (None, None)
        known = {path: value for path, value in drawn.items() if value is not None}
        scores = {path: candidate.score for path, candidate in paths.items()}
        self.steps.append(_SearchStep(scores, known, continuation))

    def _drawn(self, scores: Tensor, count: int) -> tuple[list[float], list[int]]:
        assert self._generator is not None
        state = self._generator.get_state()
        values, indices = super()._drawn(scores, count)
        again = torch.Generator(scores.device)
        again.set_state(state)
        size = self.beams * scores.shape[-1]
        noise = torch.empty(1, size, device=scores.device).exponential_(1, generator=again)[0]
        logs = scores.flatten().log_softmax(-1)
        self._drawn_by = {index: float(logs[index] - noise[index].log()) for index in indices if index < len(logs)}
        return values, indices


def _kept(branches: tuple[Branch, ...]) -> list[FollowedPaths]:
    """Return, for each step, the hypotheses that were followed or finished, by their tokens and state."""
    paths: list[tuple[int, ...]] = []
    steps: list[FollowedPaths] = []
    for branch in branches:
        before = () if branch.parent is None else paths[branch.parent]
        paths.append((*before, branch.token_id))
        while len(steps) <= branch.step:
            steps.append(set())
        if branch.state != "pruned":
            steps[branch.step].add((paths[-1], branch.state))
    return steps


def _paths(kept: FollowedPaths) -> set[tuple[int, ...]]:
    return {path for path, _ in kept}


def _differing_index(ours: list[int], theirs: list[int]) -> int:
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((at for at, (own, other) in pairs if own != other), min(len(ours), len(theirs)))


def _finite(value: Tensor) -> float | None:
    return float(value) if math.isfinite(value) else None


__all__ = ["TIE", "BeamWatch", "FirstDifference", "SingleWatch", "watch"]
