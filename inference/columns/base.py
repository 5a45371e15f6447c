"""What a column does with its logits at each step: log-probabilities in, tokens and parent rows out.

A column knows nothing of a model, a cache or its neighbours; feed it logits and it can be tested alone. Its rows lie
side by side in the batch: one for a column that picks a token at a time, one a hypothesis for beam search.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from core.errors import UserError
from inference.columns.samplers import Noise
from inference.events import Finish, Trace
from inference.strategies.table import ColumnSpec


@dataclass(frozen=True, slots=True)
class TokenDistribution:
    """A row's distribution when a token was chosen from it: the likeliest tokens with their raw log-probabilities, and
    the entropy in nats."""

    top_ids: list[int]
    top_logprobs: list[float]
    entropy: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What the processors made of a row: how many tokens they `kept`, and the probabilities `after` of the likeliest
    tokens of its distribution and of the written one (`own`)."""

    kept: int
    after: list[float]
    own: float


@dataclass(frozen=True, slots=True)
class GeneratedToken:
    """One written token with its raw log-probability and rank, and the distribution it was chosen from."""

    token_id: int
    logprob: float
    rank: int
    distribution: TokenDistribution
    choice: Choice | None = None


@dataclass(frozen=True)
class Hidden:
    """The hidden states behind a step: `layers` holds [rows of the batch, positions, size] for each layer and the
    embedding, of which `rows` are the column's; `head` gives logits."""

    layers: Sequence[Tensor]
    rows: list[int]
    head: Callable[[Tensor], Tensor]

    def last(self, layer: int = -1) -> Tensor:
        """The states of the newest position [rows, size]."""
        return self.layers[layer][self.rows, -1]

    def all(self, layer: int = -1) -> Tensor:
        """The states of the first row at all positions [positions, size]."""
        return self.layers[layer][self.rows[0]]


@dataclass(frozen=True)
class StepInput:
    """What a column sees at one step: its rows of the float32 `logits` [rows, V], their log_softmax, the likeliest
    tokens of each row and its entropy; `hidden` only where the column needs it."""

    logits: Tensor
    logprobs: Tensor
    distributions: list[TokenDistribution]
    hidden: Hidden | None = None

    def write(
        self, row: int, token_id: int, logprob: float | None = None, choice: Choice | None = None
    ) -> GeneratedToken:
        known = float(self.logprobs[row, token_id]) if logprob is None else logprob
        return GeneratedToken(token_id, known, self._rank(row, token_id), self.distributions[row], choice)

    def _rank(self, row: int, token_id: int) -> int:
        likeliest = self.distributions[row].top_ids
        if token_id in likeliest:
            return likeliest.index(token_id) + 1
        own = self.logprobs[row]
        return int((own > own[token_id]).sum()) + 1

    def choice(self, row: int, token_id: int, scores: Tensor, probabilities: Tensor) -> Choice:
        """What is told of a row's processed `scores` [V] and their `probabilities` [V]."""
        ids = torch.tensor([*self.distributions[row].top_ids, token_id], device=probabilities.device)
        *after, own = probabilities[ids].tolist()
        return Choice(int((scores > float("-inf")).sum()), after, own)

    def check(self) -> None:
        """Raises UserError when a row's probabilities are no numbers (an overflow, as happens in float16)."""
        if any(distribution.top_logprobs[0] != distribution.top_logprobs[0] for distribution in self.distributions):
            raise UserError("decode.not_finite")


@dataclass(frozen=True)
class ColumnContext:
    """What a column works with besides its own knobs. `noise` is the shared randomness of its seed, `stopped` says
    whether the end of some written ids completes a stop text, `banned` holds sequences of ids never to be written."""

    end_ids: frozenset[int]
    limit: int
    noise: Noise
    prompt_ids: list[int] = field(default_factory=list)
    stopped: Callable[[list[int]], bool] | None = None
    banned: list[list[int]] = field(default_factory=list)
    breakers: frozenset[int] = frozenset()
    layers: int = 0
    tied: bool = False


class Column:
    """One column at work.

    After `step`, `tokens` and `parents` hold a token and a parent row (among the column's own rows before) for each
    row it goes on with; `finish` is set, and they are empty, once it is done. `row_models` says which models the
    rows of its first step belong to: True for the column's own, False for its base.
    """

    needs_hidden = False

    def __init__(self, spec: ColumnSpec, context: ColumnContext) -> None:
        self.spec = spec
        self.context = context
        self.end_ids = context.end_ids
        self.limit = context.limit
        self.tokens: list[int] = []
        self.parents: list[int] = [0]
        self.finish: Finish | None = None
        self.length = 0
        self.row_forwards = 0

    def step(self, inputs: StepInput) -> None:
        """Choose the next token or tokens. Raises UserError for logits that are no numbers."""
        inputs.check()
        self.row_forwards += len(inputs.distributions)
        self._choose(inputs)

    def _choose(self, inputs: StepInput) -> None:
        raise NotImplementedError

    def row_models(self) -> list[bool]:
        """For each row that the column looks at: whether it is of the column's own model (False: of its base)."""
        return [True] * max(1, len(self.tokens))

    def drain(self) -> tuple[list[GeneratedToken], list[GeneratedToken]]:
        """What became firm since the last call, and the draft behind it."""
        raise NotImplementedError

    def written(self) -> list[GeneratedToken]:
        """All that is written now; after the end, the result."""
        raise NotImplementedError

    @property
    def saved(self) -> int:
        """Row-forwards saved so far against a beam of fixed width."""
        return 0

    def trace(self) -> Trace:
        """What the column can show of its way."""
        return Trace(fixed_width=self.spec.rows)

    def _end(self, finish: Finish) -> None:
        self.finish, self.tokens, self.parents = finish, [], []

    def stop(self, finish: Finish) -> None:
        """End here and keep what is written."""
        self._end(finish)

    @cached_property
    def start(self) -> list[int]:
        """The ids that are written first."""
        return self.spec.start

    def _ends(self, ids: list[int]) -> Finish | None:
        """Why the written `ids` are at their end, if they are."""
        if ids[-1] in self.end_ids:
            return "eos"
        if self.context.stopped is not None and len(ids) > len(self.start) and self.context.stopped(ids):
            return "stop"
        return "length" if len(ids) >= self.limit else None
