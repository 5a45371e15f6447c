"""Columns that write a token at a time: the likeliest, or one drawn from what the processors leave."""

from torch import Tensor

from inference.columns.base import Column, ColumnContext, GeneratedToken, StepInput
from inference.columns.chain import chain_of
from inference.events import Trace
from inference.strategies.table import ColumnSpec


class SingleColumn(Column):
    """A column that writes a token at a time."""

    def __init__(self, spec: ColumnSpec, context: ColumnContext) -> None:
        super().__init__(spec, context)
        self.ids: list[int] = []
        self._path: list[GeneratedToken] = []
        self._drained = 0

    def _pick(self, inputs: StepInput, forced: int | None) -> GeneratedToken:
        """The next token: `forced` where one is asked for. What a column remembers of its draws it learns from that
        one too, so that it goes on as if it had drawn it."""
        raise NotImplementedError

    def _choose(self, inputs: StepInput) -> None:
        self._append(self._pick(inputs, self.start[self.length] if self.length < len(self.start) else None))

    def _append(self, token: GeneratedToken) -> None:
        self.length += 1
        self._path.append(token)
        self.ids.append(token.token_id)
        finish = self._ends(self.ids)
        if finish:
            self._end(finish)
        else:
            self.tokens, self.parents = [token.token_id], [0]

    def drain(self) -> tuple[list[GeneratedToken], list[GeneratedToken]]:
        before, self._drained = self._drained, len(self._path)
        return self._path[before:], []

    def written(self) -> list[GeneratedToken]:
        return self._path


class ChainColumn(SingleColumn):
    """A column that picks from what its chain of processors leaves."""

    def __init__(self, spec: ColumnSpec, context: ColumnContext) -> None:
        super().__init__(spec, context)
        self.chain = chain_of(spec, context)

    def _history(self) -> list[list[int]]:
        """The ids that the chain looks back at, a row."""
        return [self.context.prompt_ids + self.ids] if self.chain.reads_history else [[]]

    def _highest(self, inputs: StepInput, scores: Tensor, forced: int | None) -> GeneratedToken:
        """The token with the highest of the chain's `scores` [1, V]."""
        token = int(scores[0].argmax()) if forced is None else forced
        return inputs.write(0, token, choice=inputs.choice(0, token, scores[0], scores[0].softmax(-1)))

    def trace(self) -> Trace:
        return Trace(chain=self.chain.kept_counts())


class GreedyColumn(ChainColumn):
    """The likeliest token each time."""

    def _pick(self, inputs: StepInput, forced: int | None) -> GeneratedToken:
        if not self.chain.processors:
            return inputs.write(0, int(inputs.logits[0].argmax()) if forced is None else forced)
        return self._highest(inputs, self.chain(inputs.logits, self._history()), forced)


class SampleColumn(ChainColumn):
    """A draw from what the chain leaves."""

    def _pick(self, inputs: StepInput, forced: int | None) -> GeneratedToken:
        scores = self.chain(inputs.logits, self._history())
        probabilities = scores.softmax(-1)
        token = self.context.noise.draw(probabilities) if forced is None else forced
        self.chain.drawn(token)
        return inputs.write(0, token, choice=inputs.choice(0, token, scores[0], probabilities[0]))
