"""Beam search: several hypotheses at once; the best continuations are kept, or sampled.

Both do what `generate` does in transformers 5.23 (`_beam_search`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from core.errors import UserError
from inference.columns.base import Column, ColumnContext, GeneratedToken, StepInput
from inference.columns.chain import chain_of
from inference.events import Branch, BranchState, Finish, Trace
from inference.strategies.table import ColumnSpec

_MOST_BRANCHES = 8192
_OUT_OF_REACH = -1e9


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """A token of a hypothesis with a link to the token before it; hypotheses share their beginnings. `branch` is its
    index in the beam tree."""

    written: GeneratedToken
    parent: "Node | None"
    depth: int
    branch: int

    def path(self) -> list[GeneratedToken]:
        """Return the hypothesis up to this token."""
        return [node.written for node in self.back()][::-1]

    def ids(self) -> list[int]:
        """Return the token ids of the hypothesis up to this token."""
        return [node.written.token_id for node in self.back()][::-1]

    def back(self) -> Iterator["Node"]:
        """Yield this node and those before it, back to the first."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A beam: its last token and its score (for a finished one divided by length ** length_penalty)."""

    node: Node
    score: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A continuation: its score, the row (among the column's own) that it continues, its token, and whether it ends
    there."""

    score: float
    row: int
    token: int
    ended: bool = False


class BeamColumn(Column):
    """Beam search: hypotheses scored by the sum of their log-probabilities.

    A step takes the best (1 + number of end tokens) * num_beams continuations, so that num_beams stay alive whatever
    ends; of those that end, the ones among the first num_beams may become finished hypotheses, the best num_beams of
    which are kept. With `beam_sample` the continuations are sampled without replacement instead.

    The tokens of `start` count neither for the score nor for the length that it is divided by: the search continues as
    if they were the end of the prompt.
    """

    def __init__(self, spec: ColumnSpec, context: ColumnContext) -> None:
        super().__init__(spec, context)
        self.beams = int(spec.knobs["num_beams"])
        self.length_penalty = float(spec.knobs["length_penalty"])
        self.early_stopping = spec.knobs.get("early_stopping", False)
        self.chain = chain_of(spec, context, keep=len(context.end_ids) + 1)
        self.live: list[Hypothesis] = []
        self.finished: list[Hypothesis] = []
        self._final_depth = 0
        self._branches: list[Branch] = []
        self._generator = context.noise.own() if spec.draws else None

    def _choose(self, inputs: StepInput) -> None:
        self.length += 1
        if self.length <= len(self.start):
            self._force(inputs, self.start[self.length - 1])
        else:
            self._search(inputs)

    def _force(self, inputs: StepInput, token: int) -> None:
        """Continue with the one token that `start` requires."""
        self.live = [self._extend(inputs, Candidate(0.0, 0, token), "live")]
        self.tokens, self.parents = [token], [0]
        if self.length >= self.limit or token in self.end_ids:
            self.finished = self.live
            self._finish()

    @property
    def _scored(self) -> int:
        """The number of tokens that the scores cover: those after the ones of `start`."""
        return self.length - len(self.start)

    def _search(self, inputs: StepInput) -> None:
        self._advance(inputs, self._candidates(inputs, self._scores(inputs)))

    def _advance(self, inputs: StepInput, best: list[Candidate]) -> None:
        """Continue with the candidates that do not end; keep those that do.

        Raises UserError if there is no token to continue with and no finished hypothesis.
        """
        out_of_reach = [candidate.score + _OUT_OF_REACH * candidate.ended for candidate in best]
        going = [best[index] for index in _top_indices(out_of_reach, self.beams) if not best[index].ended]
        closing = [candidate for candidate in best[: self.beams] if candidate.ended]
        followed = [*going, *closing]
        self._note_pruned([candidate for candidate in best[: 2 * self.beams] if candidate not in followed])
        closed = {candidate: self._extend(inputs, candidate, "finished") for candidate in closing}
        self.finished = self._best_finished(best, closed)
        before, self.live = self.live, [self._extend(inputs, candidate, "live") for candidate in going]
        self.parents, self.tokens = [candidate.row for candidate in going], [candidate.token for candidate in going]
        if not going or self._at_limit() or not self._can_improve():
            self.live = self.live or before
            if not self.finished:
                raise UserError("decode.nothing_left")
            self._finish()

    def _at_limit(self) -> bool:
        return self.length >= self.limit

    def _scores(self, inputs: StepInput) -> Tensor:
        """Return the log-probabilities [rows, V] after the processors. As in `generate`, they are not normalized
        again."""
        if not self.chain.processors:
            return inputs.logprobs
        history: list[list[int]] = [[]]
        if self.chain.reads_history:
            prompt = self.context.prompt_ids
            history = [prompt + beam.node.ids() for beam in self.live] if self.live else [prompt]
        return self.chain(inputs.logprobs, history)

    def _candidates(self, inputs: StepInput, scores: Tensor) -> list[Candidate]:
        """Return the best continuations over all beams, best first; sampled ones in the order in which they were drawn.

        A token that the processors removed is never among them, even if too few are left.
        """
        if self.live:
            scores = scores + torch.tensor([beam.score for beam in self.live], device=scores.device)[:, None]
        count = max(2, 1 + len(self.end_ids)) * self.beams
        if self._generator is not None:
            values, indices = self._drawn(scores, count)
        else:
            values, indices = _best(scores, count, self.beams)
        size, last = scores.shape[-1], len(scores) - 1
        found = [(value, min(index // size, last), index % size) for value, index in zip(values, indices, strict=True)]
        paths = [beam.node.ids() for beam in self.live] if self.context.stopped is not None else []
        return [
            Candidate(value, row, token, self._ended(paths[row] if paths else [], token))
            for value, row, token in found
            if value > -math.inf
        ]

    def _drawn(self, scores: Tensor, count: int) -> tuple[list[float], list[int]]:
        """Sample as `generate` does: from num_beams rows, of which all but the first are out of reach at the first
        step."""
        flat = _flat(scores, self.beams)[None]
        indices = torch.multinomial(flat.softmax(-1), min(count, flat.shape[-1]), generator=self._generator)
        return flat.gather(1, indices)[0].tolist(), indices[0].tolist()

    def _ended(self, path: list[int], token: int) -> bool:
        """Return whether a hypothesis ends with `token`; `path` holds the ids before it if there are stop texts."""
        if self._at_limit() or token in self.end_ids:
            return True
        return self.context.stopped is not None and self.context.stopped([*path, token])

    def _extend(self, inputs: StepInput, candidate: Candidate, state: BranchState) -> Hypothesis:
        parent = self.live[candidate.row].node if self.live else None
        branch = self._note(parent, candidate, state)
        written = inputs.write(candidate.row, candidate.token)
        return Hypothesis(Node(written, parent, self.length, branch), candidate.score)

    def _note(self, parent: Node | None, candidate: Candidate, state: BranchState) -> int:
        """Add a branch to the tree and return its index, or -1 if the tree has reached its maximum size."""
        if len(self._branches) >= _MOST_BRANCHES:
            return -1
        before = None if parent is None or parent.branch < 0 else parent.branch
        branch = Branch(self.length - 1, before, candidate.token, "", candidate.score, state)
        self._branches.append(branch)
        return len(self._branches) - 1

    def _note_pruned(self, pruned: list[Candidate]) -> None:
        for candidate in pruned:
            if math.isfinite(candidate.score):
                self._note(self.live[candidate.row].node if self.live else None, candidate, "pruned")

    def _best_finished(self, best: list[Candidate], closed: dict[Candidate, Hypothesis]) -> list[Hypothesis]:
        """Return the best of the finished hypotheses: those kept before and the candidates that are `closed` now."""
        normed = (torch.tensor([candidate.score for candidate in best]) / self._scored**self.length_penalty).tolist()
        missing = [_OUT_OF_REACH] * (self.beams - len(self.finished))
        now = [score if candidate in closed else _OUT_OF_REACH for candidate, score in zip(best, normed, strict=True)]
        known = [*self.finished, *(None for _ in missing)]
        known += [
            Hypothesis(closed[candidate].node, score) if candidate in closed else None
            for candidate, score in zip(best, now, strict=True)
        ]
        scores = [*(beam.score for beam in self.finished), *missing, *now]
        chosen = [known[index] for index in _top_indices(scores, self.beams)]
        return [beam for beam in chosen if beam is not None]

    def _can_improve(self) -> bool:
        """Return whether continuing can change the result, by the rule of `early_stopping`."""
        if len(self.finished) < self.beams:
            return True
        if self.early_stopping is True:
            return False
        return self._normed(self.live[0].score) > self.finished[-1].score

    def _normed(self, score: float) -> float:
        """Return the best final score that a live hypothesis can reach, by the rule of `early_stopping`."""
        to_the_end = self.early_stopping == "never" and self.length_penalty > 0
        length = self.limit - len(self.start) if to_the_end else self._scored
        return float(torch.tensor(score) / length**self.length_penalty)

    def _finish(self) -> None:
        ids = self.finished[0].node.ids()
        stopped = self.context.stopped is not None and self.context.stopped(ids)
        self._end("eos" if ids[-1] in self.end_ids else "stop" if stopped else "length")

    def stop(self, finish: Finish) -> None:
        self.finished = []
        self._end(finish)

    def _best(self) -> Node | None:
        if self.finish in ("eos", "length", "stop"):
            return self.finished[0].node
        return self.live[0].node if self.live else None

    def written(self) -> list[GeneratedToken]:
        best = self._best()
        return best.path() if best else []

    def drain(self) -> tuple[list[GeneratedToken], list[GeneratedToken]]:
        """Return the tokens that became final and the draft.

        Final is the common prefix of all live beams and kept finished hypotheses; the draft is the rest of the best
        one.
        """
        before = self._final_depth
        best = self._best()
        self._final_depth = max(before, best.depth if self.finish and best else self._common_depth())
        path = self.written()
        return path[before : self._final_depth], path[self._final_depth :]

    def _hypotheses(self) -> list[Hypothesis]:
        return [*self.live, *self.finished]

    def _common_depth(self) -> int:
        """Return the length of the prefix that all hypotheses share."""
        nodes = {beam.node for beam in self._hypotheses()}
        depth = min((node.depth for node in nodes), default=0)
        nodes = {_ancestor(node, depth) for node in nodes}
        while len(nodes) > 1:
            nodes = {node.parent for node in nodes if node.parent is not None}
        return min((node.depth for node in nodes), default=0)

    def trace(self) -> Trace:
        best = self._best()
        path = () if best is None else tuple(node.branch for node in best.back() if node.branch >= 0)[::-1]
        others = tuple((beam.score, tuple(beam.node.ids())) for beam in self._ranked())
        return Trace(self.chain.kept_counts(), (), self.spec.rows, tuple(self._branches), path, others)

    def _ranked(self) -> list[Hypothesis]:
        """Return the hypotheses to show beside the result, best first."""
        return self.finished or self.live


def _best(scores: Tensor, count: int, beams: int) -> tuple[list[float], list[int]]:
    """Return the highest of the scores [rows, V] and their indices in the flattened tensor, best first.

    Taking the best of each row first is fastest. Equal scores are ordered as in `generate`, which looks at all rows at
    once.
    """
    values, ids = scores.topk(min(count + 1, scores.shape[-1]))
    best, indices = values.flatten().topk(min(count + 1, values.numel()))
    if bool((best[1:] == best[:-1]).any()):
        best, indices = _flat(scores, beams).topk(min(count, beams * scores.shape[-1]))
        return best.tolist(), indices.tolist()
    best, indices = best[:count], indices[:count]
    rows = indices // values.shape[-1]
    return best.tolist(), (rows * scores.shape[-1] + ids.flatten()[indices]).tolist()


def _flat(scores: Tensor, beams: int) -> Tensor:
    """Return the scores of all beams in one dimension; beams that do not exist yet are out of reach, as in
    `generate`."""
    missing = beams - len(scores)
    if missing > 0:
        scores = torch.cat([scores, scores[:1].expand(missing, -1) + _OUT_OF_REACH])
    return scores.flatten()


def _top_indices(scores: list[float], count: int) -> list[int]:
    """Return the indices of the highest scores, equal ones in the order in which `generate` takes them."""
    return torch.tensor(scores).topk(min(count, len(scores))).indices.tolist()


def _ancestor(node: Node, depth: int) -> Node:
    return next(earlier for earlier in node.back() if earlier.depth == depth)
