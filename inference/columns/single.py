"""Columns that write a token at a time: the likeliest, or one drawn from what the processors leave."""

from torch import Tensor

from inference.columns.base import Column, Seen, Setting, Written
from inference.columns.chain import chain_of
from inference.events import Trace
from inference.strategies.table import ColumnSpec


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
