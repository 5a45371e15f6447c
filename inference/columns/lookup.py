"""Prompt lookup (Saxena 2023): what followed the same words earlier is guessed and checked by one forward.

Several tokens a step do not fit among rows of one length, so such a column runs beside the batch on its own cache.
It writes what greedy writes.
"""

import torch

from core.words import say
from inference.columns.base import GreedyColumn, Seen, Setting
from inference.engine.batch import Batch, Failed, moments_of
from inference.events import Trace
from inference.strategies.table import ColumnSpec


class LookupColumn(GreedyColumn):
    """Greedy, with guesses: `draft` says which tokens may come next."""

    def __init__(self, spec: ColumnSpec, setting: Setting) -> None:
        super().__init__(spec, setting)
        self._ngram, self._most = int(spec.knobs["ngram"]), int(spec.knobs["draft_tokens"])
        self.drafted = self.accepted = self.forwards = 0
        self.alone = False

    def draft(self) -> list[int]:
        """What followed the newest earlier occurrence of the longest possible end of the text, if it stands there."""
        ids = self.setting.prompt_ids + self.ids
        room = min(self._most, self.limit - len(self.ids) - 1)
        for size in range(min(self._ngram, len(ids) - 1), 0, -1):
            end = ids[-size:]
            for place in range(len(ids) - size - 1, -1, -1):
                if ids[place : place + size] == end:
                    return ids[place + size : place + size + room] if room > 0 else []
        return []

    def trace(self) -> Trace:
        told = "decode.lookup_alone" if self.alone else "decode.lookup_told"
        note = say(told, forwards=self.forwards, drafted=self.drafted, accepted=self.accepted)
        return Trace(chain=self.chain.told(), notes=(note,))


class LookupBatch(Batch):
    """The batch of one lookup column: several positions a forward, and what was guessed wrongly is taken back."""

    @property
    def _column(self) -> LookupColumn:
        column = next(iter(self.columns.values()))
        assert isinstance(column, LookupColumn)
        return column

    def begin(self, failed: Failed) -> None:
        super().begin(failed)
        self._column.alone = self._exact or not self._decoder.can_go_back
        self._column.forwards = self._column.row_forwards = self.forwards

    @torch.inference_mode()
    def advance(self, failed: Failed) -> None:
        column = self._column
        draft = [] if column.alone or column.length < len(column.start) else column.draft()
        ids = torch.tensor([[column.tokens[0], *draft]], device=self._device)
        logits = self._forward(ids, self._tuned(next(iter(self.columns)), column), every=True).logits[0]
        right = self._check(logits, draft, failed)
        column.drafted += len(draft)
        column.accepted += right
        column.forwards = column.row_forwards = self.forwards
        if column.finish is None and right < len(draft):
            self._decoder.go_back(len(draft) - right)

    def _check(self, logits: torch.Tensor, draft: list[int], failed: Failed) -> int:
        """Let the column write a position after the other while the guesses are right; returns how many were."""
        column, logprobs = self._column, logits.log_softmax(-1)
        moments = moments_of(logprobs)
        for place in range(len(logits)):
            try:
                column.step(Seen(logits[place : place + 1], logprobs[place : place + 1], [moments[place]]))
            except Exception as error:  # told by the caller, as in a batch of many
                column.stop("error")
                failed(next(iter(self.columns)), error)
            if place == len(draft) or column.finish == "error" or column.ids[-1] != draft[place]:
                return place
            if column.finish is not None:
                return place + 1
        return len(draft)
