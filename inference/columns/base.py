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
class Moment:
    """A row's distribution when a token was chosen from it: the likeliest tokens with their raw log-probabilities, and
    the entropy in nats."""

    top_ids: list[int]
    top_logprobs: list[float]
    entropy: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What the processors made of a row: how many tokens they `kept`, and the probabilities `after` of the moment's
    likeliest tokens and of the written one (`own`)."""

    kept: int
    after: list[float]
    own: float


@dataclass(frozen=True, slots=True)
class Written:
    """One written token with its raw log-probability and rank, and the moment it was chosen in."""

    token_id: int
    logprob: float
    rank: int
    moment: Moment
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
class Seen:
    """What a column sees at one step: its rows of the float32 `logits` [rows, V], their log_softmax, the likeliest
    tokens of each row and its entropy; `hidden` only where the column needs it."""

    logits: Tensor
    logprobs: Tensor
    moments: list[Moment]
    hidden: Hidden | None = None

    def write(self, row: int, token_id: int, logprob: float | None = None, choice: Choice | None = None) -> Written:
        known = float(self.logprobs[row, token_id]) if logprob is None else logprob
        return Written(token_id, known, self._rank(row, token_id), self.moments[row], choice)

    def _rank(self, row: int, token_id: int) -> int:
        likeliest = self.moments[row].top_ids
        if token_id in likeliest:
            return likeliest.index(token_id) + 1
        own = self.logprobs[row]
        return int((own > own[token_id]).sum()) + 1

    def choice(self, row: int, token_id: int, scores: Tensor, probabilities: Tensor) -> Choice:
        """What is told of a row's processed `scores` [V] and their `probabilities` [V]."""
        places = torch.tensor([*self.moments[row].top_ids, token_id], device=probabilities.device)
        *after, own = probabilities[places].tolist()
        return Choice(int((scores > float("-inf")).sum()), after, own)

    def check(self) -> None:
        """Raises UserError when a row's probabilities are no numbers (an overflow, as happens in float16)."""
        if any(moment.top_logprobs[0] != moment.top_logprobs[0] for moment in self.moments):
            raise UserError("decode.not_finite")


@dataclass(frozen=True)
class Setting:
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
    row it goes on with; `finish` is set, and they are empty, once it is done. `views` says which models the rows of
    its first step belong to: True for the column's own, False for its base.
    """

    needs_hidden = False

    def __init__(self, spec: ColumnSpec, setting: Setting) -> None:
        self.spec = spec
        self.setting = setting
        self.end_ids = setting.end_ids
        self.limit = setting.limit
        self.tokens: list[int] = []
        self.parents: list[int] = [0]
        self.finish: Finish | None = None
        self.length = 0
        self.row_forwards = 0

    def step(self, seen: Seen) -> None:
        """Choose the next token or tokens. Raises UserError for logits that are no numbers."""
        seen.check()
        self.row_forwards += len(seen.moments)
        self._choose(seen)

    def _choose(self, seen: Seen) -> None:
        raise NotImplementedError

    def views(self) -> list[bool]:
        """For each row that the column looks at: whether it is of the column's own model (False: of its base)."""
        return [True] * max(1, len(self.tokens))

    def news(self) -> tuple[list[Written], list[Written]]:
        """What became firm since the last call, and the draft behind it."""
        raise NotImplementedError

    def written(self) -> list[Written]:
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
        if self.setting.stopped is not None and len(ids) > len(self.start) and self.setting.stopped(ids):
            return "stop"
        return "length" if len(ids) >= self.limit else None


class SingleColumn(Column):
    """A column that writes a token at a time."""

    def __init__(self, spec: ColumnSpec, setting: Setting) -> None:
        super().__init__(spec, setting)
        self.ids: list[int] = []
        self._path: list[Written] = []
        self._told = 0

    def _pick(self, seen: Seen, forced: int | None) -> Written:
        """The next token: `forced` where one is asked for. What a column remembers of its draws it learns from that
        one too, so that it goes on as if it had drawn it."""
        raise NotImplementedError

    def _choose(self, seen: Seen) -> None:
        self._append(self._pick(seen, self.start[self.length] if self.length < len(self.start) else None))

    def _append(self, written: Written) -> None:
        self.length += 1
        self._path.append(written)
        self.ids.append(written.token_id)
        finish = self._ends(self.ids)
        if finish:
            self._end(finish)
        else:
            self.tokens, self.parents = [written.token_id], [0]

    def news(self) -> tuple[list[Written], list[Written]]:
        told, self._told = self._told, len(self._path)
        return self._path[told:], []

    def written(self) -> list[Written]:
        return self._path


class ChainColumn(SingleColumn):
    """A column that picks from what its chain of processors leaves."""

    def __init__(self, spec: ColumnSpec, setting: Setting) -> None:
        from inference.columns.chain import chain_of

        super().__init__(spec, setting)
        self.chain = chain_of(spec, setting)

    def _history(self) -> list[list[int]]:
        """The ids that the chain looks back at, a row."""
        return [self.setting.prompt_ids + self.ids] if self.chain.reads_history else [[]]

    def _highest(self, seen: Seen, scores: Tensor, forced: int | None) -> Written:
        """The token with the highest of the chain's `scores` [1, V]."""
        token = int(scores[0].argmax()) if forced is None else forced
        return seen.write(0, token, choice=seen.choice(0, token, scores[0], scores[0].softmax(-1)))

    def trace(self) -> Trace:
        return Trace(chain=self.chain.told())


class GreedyColumn(ChainColumn):
    """The likeliest token each time."""

    def _pick(self, seen: Seen, forced: int | None) -> Written:
        if not self.chain.links:
            return seen.write(0, int(seen.logits[0].argmax()) if forced is None else forced)
        return self._highest(seen, self.chain(seen.logits, self._history()), forced)


class SampleColumn(ChainColumn):
    """A draw from what the chain leaves."""

    def _pick(self, seen: Seen, forced: int | None) -> Written:
        scores = self.chain(seen.logits, self._history())
        probabilities = scores.softmax(-1)
        token = self.setting.noise.draw(probabilities) if forced is None else forced
        self.chain.drawn(token)
        return seen.write(0, token, choice=seen.choice(0, token, scores[0], probabilities[0]))


def make_column(spec: ColumnSpec, setting: Setting) -> Column:
    """The column that runs a spec."""
    from inference.columns import beams, contrastive, diverse_beams, dynamic_beams, lookup

    kinds: dict[str, Callable[[ColumnSpec, Setting], Column]] = {
        "greedy": GreedyColumn,
        "sample": SampleColumn,
        "beam": beams.BeamColumn,
        "diverse_beam": diverse_beams.DiverseBeamColumn,
        "dynamic_beam": dynamic_beams.DynamicBeamColumn,
        "contrastive": contrastive.ContrastiveColumn,
        "contrast": contrastive.ContrastColumn,
        "dola": contrastive.DolaColumn,
        "lookup": lookup.LookupColumn,
    }
    return kinds[spec.kind](spec, setting)
