"""The loss of each row under a model; logits are computed only where a token carries loss."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from core.rows import Row
from finetune.data.tokenizing.token_rows import TokenRow
from finetune.data.tokenizing.tokenize import IGNORED, Encoded, encode_all
from finetune.evaluation.measures import RowKind
from finetune.objectives import CHUNK, OBJECTIVES, Answers, Batch, Loss
from finetune.training.batches import collate
from finetune.training.loss_head import AnswerLoss

if TYPE_CHECKING:
    from inference.models.loading import Loaded

BATCH_TOKENS = 4096
Tell = Callable[[int, int], None]
Turn = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Prepared:
    """Rows as tokens, side by side (see `measures.RowKind`). Rows of which a side carries no loss are `dropped`
    (refused by the template, or nothing to learn within the max length); `cut` rows were truncated."""

    rows: list[Row]
    sides: list[list[Encoded]]
    dropped: int
    cut: int

    @property
    def counts(self) -> list[list[int]]:
        """How many tokens carry loss, by side and row."""
        return [[learned(row) for row in side] for side in self.sides]

    @property
    def tokens(self) -> int:
        """How many tokens of the learned side carry loss."""
        return sum(self.counts[0])


def prepare(rows: Sequence[Row], kind: RowKind, tokenizer: Any, max_length: int, learn: str = "answers") -> Prepared:
    """Tokenize rows as training does; `learn` as in `encode_all`."""
    sides = [_encoded([side(row) for row in rows], tokenizer, max_length, learn) for side in kind.sides]
    kept = [index for index in range(len(rows)) if all(side[index].learns for side in sides)]
    found = [[side[index] for index in kept] for side in sides]
    cut = sum(any(side[index].truncated for side in sides) for index in kept)
    return Prepared([rows[index] for index in kept], found, len(rows) - len(kept), cut)


def _encoded(rows: Sequence[Row], tokenizer: Any, max_length: int, learn: str) -> list[Encoded]:
    """Tokenize rows of several kinds and return them in their order: the tokenizer takes the rows of one kind at a
    time."""
    by_kind: dict[type, list[int]] = {}
    for index, row in enumerate(rows):
        by_kind.setdefault(type(row), []).append(index)
    found: dict[int, Encoded] = {}
    for indices in by_kind.values():
        found |= zip(indices, encode_all([rows[index] for index in indices], tokenizer, max_length, learn), strict=True)
    return [found[index] for index in range(len(rows))]


def learned(row: Encoded) -> int:
    """Return how many tokens of a row carry loss; the first is never predicted."""
    return sum(label != IGNORED for label in row.labels[1:])


def row_losses(
    loaded: "Loaded", rows: Sequence[Encoded], tell: Tell = lambda done, total: None, turn: Turn = nullcontext
) -> list[float]:
    """Return the loss of each row, in nats, summed over the tokens that carry loss.

    `tell` is called with rows done and in total before each batch, and may raise to stop; `turn` is entered for each
    batch, so that other users of the model can go in between.
    """
    compute: _RowLoss | None = None
    losses = [0.0] * len(rows)
    done = 0
    for batch in _batches(rows):
        tell(done, len(rows))
        with turn(), loaded.lock:
            compute = compute or _RowLoss(loaded)
            for row, loss in zip(batch, compute([rows[row] for row in batch]), strict=True):
                losses[row] = loss
        done += len(batch)
    tell(done, len(rows))
    return losses


def _batches(rows: Sequence[Encoded]) -> Iterator[list[int]]:
    """Yield the indices of rows of similar length, longest first, at most `BATCH_TOKENS` tokens including padding."""
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index].input_ids))
    while order:
        size = max(1, BATCH_TOKENS // len(rows[order[0]].input_ids))
        batch, order = order[:size], order[size:]
        yield batch


class _RowLoss:
    """An `AnswerLoss` whose objective keeps the loss of each row. It changes the model while it is constructed and
    called, so nothing else may use the model meanwhile."""

    def __init__(self, loaded: "Loaded") -> None:
        self._model, self._device = loaded.model, loaded.device
        self._found = torch.zeros(0)
        self._answer = AnswerLoss(self._model, replace(OBJECTIVES["sft"], loss=self._keep))

    def _keep(self, answers: Answers, batch: Batch, settings: Any) -> Loss:
        """Compute the losses `CHUNK` positions at a time, without gradients: `objectives.log_probs` would compute those
        of a trained head."""
        chunks = zip(answers.hidden.split(CHUNK), answers.targets.split(CHUNK), strict=True)
        parts = [cross_entropy(answers.head(states).float(), ids, reduction="none") for states, ids in chunks]
        token_losses = torch.cat(parts).cpu().double()
        self._found = token_losses.new_zeros(len(batch["labels"])).index_add(0, answers.rows.cpu(), token_losses)
        return Loss(self._found.sum())

    @torch.inference_mode()
    def __call__(self, rows: list[Encoded]) -> list[float]:
        batch = collate([TokenRow((row,), number=0) for row in rows])
        self._answer(self._model, {name: batch[name].to(self._device) for name in ("input_ids", "labels")})
        return self._found.tolist()
