"""What a column does with its logits at each step: log-probabilities in, tokens and parent rows out.

A column knows nothing of a model, a cache or its neighbours; feed it logits and it can be tested alone. Its rows lie
side by side in the batch: one for a column that samples, one a beam for beam search, one for every column at first.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from core.errors import UserError
from inference.results import Finish
from inference.samplers import Noise, filtered
from inference.strategies import ColumnSpec


@dataclass(frozen=True, slots=True)
class Written:
    """One written token with its raw log-probability and the likeliest tokens of that moment."""

    token_id: int
    logprob: float
    top_ids: list[int]
    top_logprobs: list[float]


@dataclass(frozen=True)
class Seen:
    """What a column sees at one step: its rows of the float32 `logits` [rows, V], their log_softmax, and the five
    likeliest tokens of each row."""

    logits: Tensor
    logprobs: Tensor
    top_ids: list[list[int]]
    top_logprobs: list[list[float]]

    def write(self, row: int, token_id: int, logprob: float | None = None) -> Written:
        known = float(self.logprobs[row, token_id]) if logprob is None else logprob
        return Written(token_id, known, self.top_ids[row], self.top_logprobs[row])

    def check(self) -> None:
        """Raises UserError when a row's probabilities are no numbers (an overflow, as happens in float16)."""
        if any(tops[0] != tops[0] for tops in self.top_logprobs):
            raise UserError("decode.not_finite")


class Column:
    """One column at work.

    After `step`, `tokens` and `parents` hold a token and a parent row (among the column's own rows before) for each
    row it goes on with; `finish` is set, and they are empty, once it is done.
    """

    def __init__(self, spec: ColumnSpec, end_ids: frozenset[int], limit: int) -> None:
        self.spec = spec
        self.end_ids = end_ids
        self.limit = limit
        self.tokens: list[int] = []
        self.parents: list[int] = [0]
        self.finish: Finish | None = None
        self.length = 0

    def step(self, seen: Seen) -> None:
        """Choose the next token or tokens. Raises UserError for logits that are no numbers."""
        seen.check()
        self.length += 1
        self._choose(seen)

    def _choose(self, seen: Seen) -> None:
        raise NotImplementedError

    def news(self) -> tuple[list[Written], list[Written]]:
        """What became firm since the last call, and the draft behind it."""
        raise NotImplementedError

    def written(self) -> list[Written]:
        """All that is written now; after the end, the result."""
        raise NotImplementedError

    def _end(self, finish: Finish) -> None:
        self.finish, self.tokens, self.parents = finish, [], []

    def stop(self, finish: Finish) -> None:
        """End here and keep what is written."""
        self._end(finish)


class SingleColumn(Column):
    """A column of one row: greedy, or a draw."""

    def __init__(self, spec: ColumnSpec, end_ids: frozenset[int], limit: int) -> None:
        super().__init__(spec, end_ids, limit)
        self._path: list[Written] = []
        self._told = 0

    def _pick(self, logits: Tensor) -> int:
        raise NotImplementedError

    def _choose(self, seen: Seen) -> None:
        token = self._pick(seen.logits)
        self._path.append(seen.write(0, token))
        self.tokens, self.parents = [token], [0]
        if token in self.end_ids:
            self._end("eos")
        elif self.length == self.limit:
            self._end("length")

    def news(self) -> tuple[list[Written], list[Written]]:
        told, self._told = self._told, len(self._path)
        return self._path[told:], []

    def written(self) -> list[Written]:
        return self._path


class GreedyColumn(SingleColumn):
    """The likeliest token each time."""

    def _pick(self, logits: Tensor) -> int:
        return int(logits[0].argmax())


class SampleColumn(SingleColumn):
    """A draw from what temperature and filter leave."""

    def __init__(self, spec: ColumnSpec, end_ids: frozenset[int], limit: int, noise: Noise) -> None:
        super().__init__(spec, end_ids, limit)
        self._noise = noise
        self._knobs = {name: float(value) for name, value in spec.knobs.items()}

    def _pick(self, logits: Tensor) -> int:
        return self._noise.draw(filtered(logits, self._knobs).softmax(-1))


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """A token of a hypothesis and the way back to its beginning; hypotheses share their beginnings."""

    written: Written
    parent: "Node | None"
    depth: int

    def path(self) -> list[Written]:
        return [node.written for node in self.back()][::-1]

    def back(self) -> Iterator["Node"]:
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A beam: its last token and its score (for a finished one divided by length ** length_penalty)."""

    node: Node
    score: float


class BeamColumn(Column):
    """Beam search as `generate` does it: hypotheses scored by the sum of their log-probabilities.

    A step takes the best (1 + number of end tokens) * num_beams continuations, so that num_beams stay alive whatever
    ends; of those that end, the ones among the best num_beams may become finished hypotheses, the best num_beams of
    which are kept (transformers 5.23, `_beam_search`).
    """

    def __init__(self, spec: ColumnSpec, end_ids: frozenset[int], limit: int) -> None:
        super().__init__(spec, end_ids, limit)
        self.beams = int(spec.knobs["num_beams"])
        self.length_penalty = float(spec.knobs["length_penalty"])
        self.early_stopping = spec.knobs["early_stopping"]
        self.live: list[Hypothesis] = []
        self.kept: list[Hypothesis] = []
        self._firm_depth = 0

    def _choose(self, seen: Seen) -> None:
        best = self._continuations(seen)
        ended = [self.length == self.limit or token in self.end_ids for _, _, token in best]
        going = [choice for choice, end in zip(best, ended, strict=True) if not end][: self.beams]
        closing = [choice for choice, end in zip(best[: self.beams], ended, strict=False) if end]
        self.kept = self._best_finished([self._extend(seen, choice) for choice in closing])
        before, self.live = self.live, [self._extend(seen, choice) for choice in going]
        self.parents, self.tokens = [row for _, row, _ in going], [token for _, _, token in going]
        if all(ended) or not self._can_improve():
            self.live = self.live or before
            self._finish()

    def _continuations(self, seen: Seen) -> list[tuple[float, int, int]]:
        """The best continuations over all beams: (score, row, token), best first."""
        scores = seen.logprobs
        if self.live:
            scores = scores + torch.tensor([beam.score for beam in self.live], device=scores.device)[:, None]
        count = max(2, 1 + len(self.end_ids)) * self.beams
        values, ids = scores.topk(min(count, scores.shape[-1]))
        best, places = values.flatten().topk(min(count, values.numel()))
        rows = (places // values.shape[-1]).tolist()
        return list(zip(best.tolist(), rows, ids.flatten()[places].tolist(), strict=True))

    def _extend(self, seen: Seen, choice: tuple[float, int, int]) -> Hypothesis:
        score, row, token = choice
        parent = self.live[row].node if self.live else None
        return Hypothesis(Node(seen.write(row, token), parent, self.length), score)

    def _best_finished(self, closed: list[Hypothesis]) -> list[Hypothesis]:
        normed = [Hypothesis(beam.node, beam.score / self.length**self.length_penalty) for beam in closed]
        return sorted(self.kept + normed, key=lambda beam: -beam.score)[: self.beams]

    def _can_improve(self) -> bool:
        """Whether going on can change the result, by the rule of `early_stopping`."""
        if len(self.kept) < self.beams:
            return True
        if self.early_stopping is True:
            return False
        to_the_end = self.early_stopping == "never" and self.length_penalty > 0
        length = self.limit if to_the_end else self.length
        return self.live[0].score / length**self.length_penalty > self.kept[-1].score

    def _finish(self) -> None:
        last = self.kept[0].node.written.token_id
        self._end("eos" if last in self.end_ids else "length")

    def stop(self, finish: Finish) -> None:
        self.kept = []
        self._end(finish)

    def _best(self) -> Node | None:
        if self.finish in ("eos", "length"):
            return self.kept[0].node
        return self.live[0].node if self.live else None

    def written(self) -> list[Written]:
        best = self._best()
        return best.path() if best else []

    def news(self) -> tuple[list[Written], list[Written]]:
        """Firm is what all live beams and kept finished hypotheses begin with; the draft is the rest of the best."""
        told = self._firm_depth
        best = self._best()
        self._firm_depth = max(told, best.depth if self.finish and best else self._common_depth())
        path = self.written()
        return path[told : self._firm_depth], path[self._firm_depth :]

    def _common_depth(self) -> int:
        """How many tokens all hypotheses share."""
        nodes = {beam.node for beam in (*self.live, *self.kept)}
        depth = min((node.depth for node in nodes), default=0)
        nodes = {_ancestor(node, depth) for node in nodes}
        while len(nodes) > 1:
            nodes = {node.parent for node in nodes if node.parent is not None}
        return min((node.depth for node in nodes), default=0)


def _ancestor(node: Node, depth: int) -> Node:
    return next(earlier for earlier in node.back() if earlier.depth == depth)


def make_column(spec: ColumnSpec, end_ids: frozenset[int], limit: int, noise: Noise) -> Column:
    """The column that runs a spec, `limit` tokens at most."""
    if spec.kind == "beam":
        return BeamColumn(spec, end_ids, limit)
    return GreedyColumn(spec, end_ids, limit) if spec.kind == "greedy" else SampleColumn(spec, end_ids, limit, noise)
