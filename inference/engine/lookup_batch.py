"""The batch of a lookup column: several positions per forward pass on a separate cache."""

import torch

from inference.columns.base import StepInput
from inference.columns.lookup import LookupColumn
from inference.engine.batch import Batch, Failed, distributions_of


class LookupBatch(Batch):
    """The batch of one lookup column: several positions per forward pass; rejected draft tokens are removed from the
    cache."""

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
        """Let the column choose one position after the other while the draft is right; return how many draft tokens
        were."""
        column, logprobs = self._column, logits.log_softmax(-1)
        distributions = distributions_of(logprobs)
        for position in range(len(logits)):
            rows = slice(position, position + 1)
            try:
                column.step(StepInput(logits[rows], logprobs[rows], [distributions[position]]))
            except Exception as error:  # reported by the caller, as in a batch of many
                column.stop("error")
                failed(next(iter(self.columns)), error)
            if position == len(draft) or column.finish == "error" or column.ids[-1] != draft[position]:
                return position
            if column.finish is not None:
                return position + 1
        return len(draft)
