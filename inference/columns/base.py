"""What a column does with its logits at each step: log-probabilities in, tokens and parent rows out.

A column knows nothing of a model, a cache or other columns, so it can be tested alone with any logits. Its rows are
adjacent in the batch: one for a column that picks one token at a time, one per hypothesis for beam search.
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
    """What the processors made of a row's distribution: how many tokens they `kept`, and the probabilities `after` them
    of the likeliest tokens and of the generated one (`own`)."""

    kept: int
    after: list[float]
    own: float


@dataclass(frozen=True, slots=True)
class GeneratedToken:
    """A generated token with its raw log-probability and rank, and the distribution it was chosen from."""

    token_id: int
    logprob: float
    rank: int
    distribution: TokenDistribution
    choice: Choice | None = None


@dataclass(frozen=True)
class Hidden:
    """The hidden states behind a step: `layers` holds [rows of the batch, positions, size] for the embedding and each
    layer, of which `rows` are the column's; `head` computes logits from them."""

    layers: Sequence[Tensor]
    rows: list[int]
    head: Callable[[Tensor], Tensor]

    def last(self, layer: int = -1) -> Tensor:
        """Return the states of the newest position [rows, size]."""
        return self.layers[layer][self.rows, -1]

    def all(self, layer: int = -1) -> Tensor:
        """Return the states of the column's first row at all positions [positions, size]."""
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
        """Return `token_id`, chosen from `row`, as a generated token with its log-probability and rank."""
        known = float(self.logprobs[row, token_id]) if logprob is None else logprob
        return GeneratedToken(token_id, known, self._rank(row, token_id), self.distributions[row], choice)

    def _rank(self, row: int, token_id: int) -> int:
        likeliest = self.distributions[row].top_ids
        if token_id in likeliest:
            return likeliest.index(token_id) + 1
        own = self.logprobs[row]
        return int((own > own[token_id]).sum()) + 1

    def choice(self, row: int, token_id: int, scores: Tensor, probabilities: Tensor) -> Choice:
        """Return what the processors made of a row: `scores` [V] after them, and their `probabilities` [V]."""
        ids = torch.tensor([*self.distributions[row].top_ids, token_id], device=probabilities.device)
        *after, own = probabilities[ids].tolist()
        return Choice(int((scores > float("-inf")).sum()), after, own)

    def check(self) -> None:
        """Raise UserError if a row's log-probabilities are NaN (an overflow, as happens in float16)."""
        if any(distribution.top_logprobs[0] != distribution.top_logprobs[0] for distribution in self.distributions):
            raise UserError("decode.not_finite")


@dataclass(frozen=True)
class ColumnContext:
    """What a column works with besides its own knobs. `noise` is the shared randomness of its seed, `stopped` returns
    whether the end of some generated ids completes a stop text, `banned` holds sequences of ids that must not be
    generated."""

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
    """One column of a comparison.

    After `step`, `tokens` and `parents` hold a token and a parent row (among the column's own previous rows) for each
    row that continues; when the column is done, `finish` is set and both are empty. `row_models` says which model each
    row of its first step belongs to: True for the column's own, False for its base.
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
        """Choose the next token or tokens. Raises UserError for logits that are NaN."""
        inputs.check()
        self.row_forwards += len(inputs.distributions)
        self._choose(inputs)

    def _choose(self, inputs: StepInput) -> None:
        raise NotImplementedError

    def row_models(self) -> list[bool]:
        """Return, for each row of the column, whether it runs on the column's own model (True) or on its base
        (False)."""
        return [True] * max(1, len(self.tokens))

    def drain(self) -> tuple[list[GeneratedToken], list[GeneratedToken]]:
        """Return the tokens that became final since the last call, and the draft after them."""
        raise NotImplementedError

    def written(self) -> list[GeneratedToken]:
        """Return all tokens generated so far; after the end, the result."""
        raise NotImplementedError

    @property
    def saved(self) -> int:
        """Row-forwards saved so far against a beam of fixed width."""
        return 0

    def trace(self) -> Trace:
        """Return what the column can show of its search."""
        return Trace(fixed_width=self.spec.rows)

    def _end(self, finish: Finish) -> None:
        self.finish, self.tokens, self.parents = finish, [], []

    def stop(self, finish: Finish) -> None:
        """End the column now and keep what is generated."""
        self._end(finish)

    @cached_property
    def start(self) -> list[int]:
        """The ids to generate first."""
        return self.spec.start

    def _ends(self, ids: list[int]) -> Finish | None:
        """Return why the generated `ids` end the column, None if they do not."""
        if ids[-1] in self.end_ids:
            return "eos"
        if self.context.stopped is not None and len(ids) > len(self.start) and self.context.stopped(ids):
            return "stop"
        return "length" if len(ids) >= self.limit else None
