"""Batches of rows of similar length, padded on the right, in an order that depends only on the seed and the epoch."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from finetune.data.tokenizing.packing import positions
from finetune.data.tokenizing.token_rows import TokenRow, TokenRows
from finetune.data.tokenizing.tokenize import IGNORED

POOL = 50


class LengthGrouped(Sampler[int]):
    """Rows shuffled, then sorted by length within pools of `POOL` batches; the batches of an epoch are shuffled again.

    The batch with the longest row comes first: memory that suffices for it suffices for all, and a batch that is longer
    than all before takes several times as long on a CPU. The order depends on nothing but the seed and the epoch.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, batch_size: int, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[list[int]]:
        """Yield the batches of the epoch, the longest row of each first."""
        chance = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        rows = torch.randperm(len(self.lengths), generator=chance).numpy()
        for start in range(0, len(rows), POOL * self.batch_size):
            pool = rows[start : start + POOL * self.batch_size]
            pool[:] = pool[np.argsort(-self.lengths[pool], kind="stable")]
        whole = len(rows) // self.batch_size
        order = torch.randperm(whole, generator=chance).numpy()
        if whole:
            longest = int(np.argmax(self.lengths[rows[: whole * self.batch_size : self.batch_size]]))
            order = np.concatenate([[longest], order[order != longest]])
        for index in order:
            yield rows[index * self.batch_size : (index + 1) * self.batch_size].tolist()
        if whole * self.batch_size < len(rows):
            yield rows[whole * self.batch_size :].tolist()


class SharedBatches(Sampler[list[int]]):
    """The rows of each batch that one of `size` processes computes: every `size`-th, so that all have equal work.

    A process has no rows where a batch is too small. Together the processes see the same batches as one process alone.
    """

    def __init__(self, order: LengthGrouped, rank: int = 0, size: int = 1) -> None:
        self.batch_sampler = order
        self.rank = rank
        self.size = size

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return math.ceil(len(self.batch_sampler) / self.batch_sampler.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batch_sampler.batches():
            yield batch[self.rank :: self.size]


def collate(rows: Sequence[TokenRow], reference: Tensor | None = None) -> dict[str, Tensor]:
    """Return a batch: `input_ids` and `labels` [B, T], padded on the right (labels with -100), `tokens`, the number of
    tokens without padding, and `numbers`, the row numbers in the data.

    Of pairs the chosen answers come first and then the rejected ones, with the `reference` log-probabilities [2, B].
    Where documents share a row, `position_ids` [B, T] start anew with each document. There is no attention mask: in a
    causal model no token attends to later ones. Without rows the batch is one row of padding.
    """
    parts = [row.parts[side] for side in range(max((len(row.parts) for row in rows), default=1)) for row in rows]
    length = max((len(part.input_ids) for part in parts), default=2)
    ids = torch.zeros((len(parts) or 1, length), dtype=torch.long)
    labels = torch.full((len(parts) or 1, length), IGNORED)
    for index, part in enumerate(parts):
        ids[index, : len(part.input_ids)] = torch.tensor(part.input_ids)
        labels[index, : len(part.labels)] = torch.tensor(part.labels)
    batch = {"input_ids": ids, "labels": labels, "tokens": torch.tensor(sum(len(part.input_ids) for part in parts))}
    batch["numbers"] = torch.tensor([row.number for row in rows])
    if any(row.documents for row in rows):
        batch["position_ids"] = torch.from_numpy(np.stack([positions(_documents(row), length) for row in rows]))
    if reference is not None:
        batch["reference"] = reference[:, [row.index for row in rows]]
    return batch


def _documents(row: TokenRow) -> Sequence[int]:
    return row.documents or (row.length,)


def in_order(rows: TokenRows, batch_size: int, rank: int = 0, size: int = 1) -> Iterator[list[int]]:
    """Yield the indices of all rows once, longest first, for evaluation; of each batch the share of one of `size`
    processes."""
    order = np.argsort(-rows.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size][rank::size].tolist()
