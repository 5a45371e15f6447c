"""Prompt lookup (Saxena 2023): what followed the same words earlier is guessed and checked by one forward.

Several tokens a step do not fit among rows of one length, so such a column runs beside the batch on its own cache.
It writes what greedy writes.
"""

from core.words import say
from inference.columns.base import ColumnContext
from inference.columns.single import GreedyColumn
from inference.events import Trace
from inference.strategies.table import ColumnSpec


class LookupColumn(GreedyColumn):
    """Greedy, with guesses: `draft` says which tokens may come next."""

    def __init__(self, spec: ColumnSpec, context: ColumnContext) -> None:
        super().__init__(spec, context)
        self._ngram, self._most = int(spec.knobs["ngram"]), int(spec.knobs["draft_tokens"])
        self.drafted = self.accepted = self.forwards = 0
        self.alone = False

    def draft(self) -> list[int]:
        """What followed the newest earlier occurrence of the longest possible end of the text, if it stands there."""
        ids = self.context.prompt_ids + self.ids
        room = min(self._most, self.limit - len(self.ids) - 1)
        for size in range(min(self._ngram, len(ids) - 1), 0, -1):
            end = ids[-size:]
            for place in range(len(ids) - size - 1, -1, -1):
                if ids[place : place + size] == end:
                    return ids[place + size : place + size + room] if room > 0 else []
        return []

    def trace(self) -> Trace:
        sentence = "decode.lookup_alone" if self.alone else "decode.lookup_told"
        note = say(sentence, forwards=self.forwards, drafted=self.drafted, accepted=self.accepted)
        return Trace(chain=self.chain.kept_counts(), notes=(note,))
