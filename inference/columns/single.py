"""Columns that generate one token at a time: the likeliest, or one sampled from what the processors keep."""

from torch import Tensor

from inference.columns.base import Column, ColumnContext, GeneratedToken, StepInput
from inference.columns.chain import chain_of
from inference.events import Trace
from inference.strategies.table import ColumnSpec


class SingleColumn(Column):
    """A column that generates one token at a time."""

    def __init__(self, spec: ColumnSpec, context: ColumnContext) -> None:
        super().__init__(spec, context)
        self.ids: list[int] = []
        self._path: list[GeneratedToken] = []
        self._drained = 0

    def _pick(self, inputs: StepInput, forced: int | None) -> GeneratedToken:
        """Return the next token: `forced` if one is required. A column with a state that depends on its draws updates
        it with a forced token, too, as if it had drawn it."""
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
    """A column that picks from what its processors keep."""

    def __init__(self, spec: ColumnSpec, context: ColumnContext) -> None:
        super().__init__(spec, context)
        self.chain = chain_of(spec, context)

    def _history(self) -> list[list[int]]:
        """Return the ids that the processors look back at, one list per row."""
        return [self.context.prompt_ids + self.ids] if self.chain.reads_history else [[]]

    def _highest(self, inputs: StepInput, scores: Tensor, forced: int | None) -> GeneratedToken:
        """Return the token with the highest of the processed `scores` [1, V]."""
        token = int(scores[0].argmax()) if forced is None else forced
        return inputs.write(0, token, choice=inputs.choice(0, token, scores[0], scores[0].softmax(-1)))

    def trace(self) -> Trace:
        return Trace(chain=self.chain.kept_counts())


class GreedyColumn(ChainColumn):
    """Takes the likeliest token each time."""

    def _pick(self, inputs: StepInput, forced: int | None) -> GeneratedToken:
        if not self.chain.processors:
            return inputs.write(0, int(inputs.logits[0].argmax()) if forced is None else forced)
        return self._highest(inputs, self.chain(inputs.logits, self._history()), forced)


class SampleColumn(ChainColumn):
    """Samples from what the processors keep."""

    def _pick(self, inputs: StepInput, forced: int | None) -> GeneratedToken:
        scores = self.chain(inputs.logits, self._history())
        probabilities = scores.softmax(-1)
        token = self.context.noise.draw(probabilities) if forced is None else forced
        self.chain.drawn(token)
        return inputs.write(0, token, choice=inputs.choice(0, token, scores[0], probabilities[0]))
