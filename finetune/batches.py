"""Batches of rows of like length, padded on the right, in an order that only the seed and the epoch decide."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Sampler

from finetune.data.tokenise import IGNORED, Encoded

POOL = 50


class LengthGrouped(Sampler[int]):
    """Rows shuffled, then sorted by length within pools of `POOL` batches; the batches of an epoch are shuffled again.

    The batch with the longest row comes first: memory that suffices for it suffices for all, and a longer batch than
    all before costs a multiple of its time on a CPU. The order depends on nothing but the seed and the epoch.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths = lengths
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
        """The batches of the epoch, the longest row of each first."""
        chance = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        shuffled = torch.randperm(len(self.lengths), generator=chance).tolist()
        batches = [batch for pool in self._cut(shuffled, POOL * self.batch_size) for batch in self._sorted(pool)]
        short = [batches.pop()] if len(batches[-1]) < self.batch_size else []
        order = torch.randperm(len(batches), generator=chance).tolist()
        longest = self._longest(batches)
        order.sort(key=lambda place: place != longest)
        yield from [batches[place] for place in order] + short

    def _sorted(self, pool: list[int]) -> list[list[int]]:
        return self._cut(sorted(pool, key=lambda row: -self.lengths[row]), self.batch_size)

    def _longest(self, batches: list[list[int]]) -> int:
        """The place of the batch with the longest row, which is its first."""
        return max(range(len(batches)), key=lambda place: self.lengths[batches[place][0]], default=0)

    @staticmethod
    def _cut(rows: list[int], size: int) -> list[list[int]]:
        return [rows[start : start + size] for start in range(0, len(rows), size)]


class SharedBatches(Sampler[list[int]]):
    """Of each batch the rows that one of `size` processes computes: every `size`-th, so that all have as much to do.

    A process goes without rows where a batch has too few. All together see the batches that one alone would see.
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


def collate(rows: Sequence[Encoded]) -> dict[str, Tensor]:
    """`input_ids` and `labels` [B, T], padded on the right (labels with -100), and `tokens`, how many are no padding.

    There is no attention mask: in a causal model no token sees what stands behind it. No rows give one of padding.
    """
    length = max((len(row.input_ids) for row in rows), default=2)
    ids = torch.zeros((len(rows) or 1, length), dtype=torch.long)
    labels = torch.full((len(rows) or 1, length), IGNORED)
    for place, row in enumerate(rows):
        ids[place, : len(row.input_ids)] = torch.tensor(row.input_ids)
        labels[place, : len(row.labels)] = torch.tensor(row.labels)
    return {"input_ids": ids, "labels": labels, "tokens": torch.tensor(sum(len(row.input_ids) for row in rows))}


def in_order(rows: Sequence[Encoded], batch_size: int, rank: int = 0, size: int = 1) -> Iterator[dict[str, Tensor]]:
    """All rows once, longest first, for measuring; of each batch the share of one of `size` processes."""
    ordered = sorted(rows, key=lambda row: -len(row.input_ids))
    for start in range(0, len(ordered), batch_size):
        yield collate(ordered[start : start + batch_size][rank::size])
