"""Prompt lookup (Saxena 2023): what followed the same tokens earlier is drafted and verified by one forward pass.

Several tokens per step do not fit a batch whose rows have one length, so such a column runs separately on its own
cache. It generates what greedy generates.
"""

from core.words import say
from inference.columns.base import ColumnContext
from inference.columns.single import GreedyColumn
from inference.events import Trace
from inference.strategies.table import ColumnSpec


class LookupColumn(GreedyColumn):
    """Greedy with drafts: `draft` returns the tokens that may come next."""

    def __init__(self, spec: ColumnSpec, context: ColumnContext) -> None:
        super().__init__(spec, context)
        self._ngram, self._most = int(spec.knobs["ngram"]), int(spec.knobs["draft_tokens"])
        self.drafted = self.accepted = self.forwards = 0
        self.alone = False

    def draft(self) -> list[int]:
        """Return the tokens that followed the newest earlier occurrence of the longest matching suffix of the text, if
        any."""
        ids = self.context.prompt_ids + self.ids
        room = min(self._most, self.limit - len(self.ids) - 1)
        for size in range(min(self._ngram, len(ids) - 1), 0, -1):
            end = ids[-size:]
            for position in range(len(ids) - size - 1, -1, -1):
                if ids[position : position + size] == end:
                    return ids[position + size : position + size + room] if room > 0 else []
        return []

    def trace(self) -> Trace:
        sentence = "decode.lookup_alone" if self.alone else "decode.lookup_told"
        note = say(sentence, forwards=self.forwards, drafted=self.drafted, accepted=self.accepted)
        return Trace(chain=self.chain.kept_counts(), notes=(note,))
