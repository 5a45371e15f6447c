"""Columns that contrast the next token with something else: the text so far, an earlier layer, the untuned model."""

import math

import torch
from torch import Tensor

from inference.columns.base import ColumnContext, GeneratedToken, StepInput
from inference.columns.chain import chain_of
from inference.columns.single import ChainColumn, SingleColumn
from inference.events import Trace
from inference.strategies.table import ColumnSpec

_LEAST = -1e4


class ContrastiveColumn(SingleColumn):
    """Contrastive search (Su et al. 2022): of the top_k likeliest tokens, take the one with the highest (1 - alpha) *
    probability - alpha * (its greatest cosine similarity to an earlier token).

    Its candidates are rows of the next forward pass, which gives their hidden states; so a token is known one step
    later, and the column needs one forward pass more than it generates tokens.
    """

    needs_hidden = True

    def __init__(self, spec: ColumnSpec, context: ColumnContext) -> None:
        super().__init__(spec, context)
        self._count, self._alpha = int(spec.knobs["top_k"]), float(spec.knobs["penalty_alpha"])
        self._before: Tensor = torch.empty(0)
        self._offered: list[GeneratedToken] = []
        self._penalties = chain_of(spec, context)

    def _choose(self, inputs: StepInput) -> None:
        row = 0
        assert inputs.hidden is not None
        if not self._offered:
            self._before = _directions(inputs.hidden.all())
        else:
            states = _directions(inputs.hidden.last())
            row = self._chosen(states)
            self._before = torch.cat([self._before, states[row : row + 1]])
            self._append(self._offered[row])
        if self.finish is None:
            self._offered = self._offers(inputs, row)
            self.tokens = [written.token_id for written in self._offered]
            self.parents = [row] * len(self.tokens)

    def _chosen(self, states: Tensor) -> int:
        """Return the row of the best candidate."""
        similar = (states @ self._before.T).amax(-1)
        own = torch.tensor([self._weight(written) for written in self._offered], device=similar.device)
        return int(((1 - self._alpha) * own - self._alpha * similar).argmax())

    @staticmethod
    def _weight(written: GeneratedToken) -> float:
        return math.exp(written.logprob) if written.choice is None else written.choice.own

    def _offers(self, inputs: StepInput, row: int) -> list[GeneratedToken]:
        """Return the candidates that may follow the token just generated."""
        if len(self.ids) < len(self.start):
            return [inputs.write(row, self.start[len(self.ids)])]
        if not self._penalties.processors:
            return [inputs.write(row, token) for token in _likeliest(inputs.logits[row], self._count)]
        scores = self._penalties(inputs.logits[row : row + 1], [self.context.prompt_ids + self.ids])[0]
        tokens, probabilities = _likeliest(scores, self._count), scores.softmax(-1)
        return [inputs.write(row, token, choice=inputs.choice(row, token, scores, probabilities)) for token in tokens]

    def trace(self) -> Trace:
        return Trace(chain=(*self._penalties.kept_counts(), ("contrastive", 1)), fixed_width=self._count)


def _likeliest(scores: Tensor, count: int) -> list[int]:
    """Return the ids of the `count` highest of `scores` [V], without removed tokens."""
    values, ids = scores.topk(min(count, len(scores)))
    return ids[values > float("-inf")].tolist()


def _directions(states: Tensor) -> Tensor:
    """Return states [n, size] as float32 unit vectors."""
    return torch.nn.functional.normalize(states.float(), dim=-1)


class _WeighedColumn(ChainColumn):
    """A column whose processors work on contrasted log-probabilities, and that takes the highest."""

    name = ""

    def _contrasted(self, inputs: StepInput, own: Tensor) -> Tensor:
        """Return scores [1, V] from the column's `own` log-probabilities [1, V], in which -inf marks a banned token."""
        raise NotImplementedError

    def _pick(self, inputs: StepInput, forced: int | None) -> GeneratedToken:
        own, history = inputs.logprobs[:1], self._history()
        if self.chain.cuts:
            # plausibility is judged among the allowed tokens: if all plausible tokens were banned, none would be left
            own = own.masked_fill(self.chain(own, history) == float("-inf"), float("-inf"))
        scores = self._contrasted(inputs, own)
        self._left = int((scores > float("-inf")).sum())
        return self._highest(inputs, self.chain(scores, history), forced)

    _left: int | None = None

    def trace(self) -> Trace:
        return Trace(chain=((self.name, self._left), *self.chain.kept_counts()), fixed_width=self.spec.rows)


def plausible(logprobs: Tensor, share: float) -> Tensor:
    """Return the mask [rows, V] of the tokens with at least `share` of the likeliest one's probability."""
    least = logprobs.amax(-1, keepdim=True) + math.log(share) if share > 0 else float("-inf")
    return (logprobs >= least) & (logprobs > float("-inf"))


class ContrastColumn(_WeighedColumn):
    """Contrastive decoding (Li et al. 2022) of the tuned model against its base: take the plausible token with the
    highest log p_tuned - strength * log p_base. Two rows: the first tuned, the second base."""

    name = "contrast"

    def row_models(self) -> list[bool]:
        return [True, False]

    def _contrasted(self, inputs: StepInput, own: Tensor) -> Tensor:
        kept = plausible(own, float(self.spec.knobs["plausibility"]))
        strength = float(self.spec.knobs["strength"])
        base = inputs.logprobs[1:2].clamp(min=_LEAST)
        return (own - strength * base).masked_fill(~kept, float("-inf"))

    def _append(self, written: GeneratedToken) -> None:
        super()._append(written)
        if self.finish is None:
            self.tokens, self.parents = [written.token_id] * 2, [0, 1]


class DolaColumn(_WeighedColumn):
    """DoLa (Chuang et al. 2023): take the plausible token whose log-probability grew most from an earlier layer to the
    last.

    Of the candidate layers, the one whose distribution has the greatest Jensen-Shannon divergence from that of the last
    layer is used. Early layers are read with the model's own head.
    """

    name = "dola"
    needs_hidden = True

    def _contrasted(self, inputs: StepInput, own: Tensor) -> Tensor:
        assert inputs.hidden is not None
        last = inputs.logprobs[:1]
        states = torch.cat([inputs.hidden.last(layer)[:1] for layer in self._layers()])
        early = inputs.hidden.head(states).float().log_softmax(-1)
        chosen = early[_farthest(last, early)][None]
        kept = plausible(own, float(self.spec.knobs["plausibility"]))
        return (last - chosen).masked_fill(~kept, float("-inf"))

    def _layers(self) -> list[int]:
        """Return the candidate layers: every second one of the lower or the upper half; with more than 40 layers, of
        the first or last 20. If the embedding is tied to the head, layer 0 would only repeat the last token, so it is
        omitted."""
        count = self.context.layers
        if self.spec.knobs["layers"] == "high":
            return list(range(max(count // 2, count - 20), count, 2))
        first = min(2, count - 1) if self.context.tied else 0
        return list(range(first, min(count // 2, 20), 2)) or [first]


def _farthest(last: Tensor, early: Tensor) -> int:
    """Return the row of log-probabilities [n, V] with the greatest Jensen-Shannon divergence from `last` [1, V].

    Early layers of a trained model are so far from the last that in float32 every divergence rounds to ln 2. The
    difference to ln 2, half the sum of p ln(1 + q/p) + q ln(1 + p/q), keeps its precision: its minimum is the greatest
    divergence.
    """
    softplus = torch.nn.functional.softplus
    shared = last.exp() * softplus(early - last) + early.exp() * softplus(last - early)
    return int(shared.nansum(-1).argmin())
