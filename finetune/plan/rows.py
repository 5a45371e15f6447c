"""The rows of a stage for its plan: tokenized as in the run, and only a sample of a large dataset."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from core.errors import UserError
from core.rows import Row
from core.words import counted
from finetune.config.counts import held_out, total_steps
from finetune.config.run_config import RunConfig, Stage
from finetune.data.store import Dataset
from finetune.data.tokenizing.encode_stage import StageEncoder
from finetune.data.tokenizing.token_rows import TokenRow
from finetune.objectives import OBJECTIVES

SAMPLE = 2000
_MOST_BATCHES = 20_000


@dataclass(frozen=True)
class StageRows:
    """`rows` are those to train on and `held` the held-out ones, as far as they were tokenized: `seen` of the stage's
    `of` rows. `count` and `held_count` are the numbers of such rows in the run; `first` is the row whose prompt is
    answered at evaluations."""

    rows: list[TokenRow]
    held: list[TokenRow]
    seen: int
    of: int
    count: int
    held_count: int
    first: Row

    @property
    def exact(self) -> bool:
        """Whether every row was tokenized."""
        return self.seen == self.of


@dataclass(frozen=True)
class Shapes:
    """Batches as `[n, 2]` sequences and padded length; a step has `accumulation` of them. `tokens` are counted without
    padding, in one epoch; `learned` is the share of tokens that carry loss; an epoch has `an_epoch` batches."""

    batches: np.ndarray
    held: np.ndarray
    steps: int
    accumulation: int
    tokens: int
    learned: float
    an_epoch: int

    @property
    def padded(self) -> float:
        """The mean number of tokens of a batch, including padding."""
        return float((self.batches[:, 0] * self.batches[:, 1]).mean())

    @property
    def largest(self) -> tuple[int, int]:
        """Sequences and length of the batch with the most tokens."""
        sequences, length = max(self.batches, key=lambda batch: (batch[0] * batch[1], batch[1]))
        return int(sequences), int(length)


def tokenize_stage(
    config: RunConfig, stage: Stage, datasets: Sequence[Dataset], tokenizer: Any, separate: bool, most: int = SAMPLE
) -> StageRows:
    """Tokenize a stage's rows, at most about `most` of them, spread over its data.

    Raises UserError where none is left to learn from.
    """
    total = sum(dataset.report.rows_kept for dataset in datasets)
    of = min(total, config.limits.max_rows or total)
    aside = held_out(of, config)
    if of - aside < 1:
        raise UserError("run.no_rows", rows=counted("core.rows", of), held=aside)
    found = _read(config, stage, list(_spread(datasets, of, most)), of, tokenizer, separate)
    if not found.rows and not found.exact:
        found = _read(config, stage, list(_spread(datasets, of, of)), of, tokenizer, separate)
    if not found.rows:
        raise UserError("run.no_labels", rows=counted("core.rows", of - aside), length=config.limits.max_length)
    return found


def _read(
    config: RunConfig, stage: Stage, numbered: list[tuple[int, Row]], of: int, tokenizer: Any, separate: bool
) -> StageRows:
    """Tokenize numbered rows, which are a sample of `of` rows."""
    held_indices = set(random.Random(config.seed).sample(range(len(numbered)), held_out(len(numbered), config)))
    sides = []
    for held in (False, True):
        encoder = StageEncoder(stage, tokenizer, config.limits.max_length, separate)
        part = [pair for index, pair in enumerate(numbered) if (index in held_indices) == held]
        sides.append(list(encoder(iter(part))))
    rows, held_rows = sides
    scale = of / len(numbered)
    counts = round(len(rows) * scale), round(len(held_rows) * scale)
    return StageRows(rows, held_rows, len(numbered), of, *counts, first=numbered[min(held_indices, default=0)][1])


def _spread(datasets: Sequence[Dataset], of: int, most: int) -> Iterator[tuple[int, Row]]:
    """Yield the first `of` rows with their numbers, or about `most` of them, spread over the datasets."""
    before = 0
    for dataset in datasets:
        here = min(dataset.report.rows_kept, of - before)
        if here > 0:
            share = here if of <= most else max(1, most * here // of)
            yield from ((before + index + 1, row) for index, row in dataset.spread(here, share))
        before += here


def shapes(config: RunConfig, stage: Stage, found: StageRows) -> Shapes:
    """Return the batches of a stage in the order of the run, up to `_MOST_BATCHES`."""
    optim = config.optim_of(stage)
    sides = 2 if OBJECTIVES[stage.objective].pairs else 1
    steps = total_steps(found.count, config, stage)
    lengths = _lengths(found.rows, found.count)
    wanted = min(steps * optim.gradient_accumulation, _MOST_BATCHES)
    batches = np.array(list(islice(_batches(lengths, optim.batch_size, config.seed), wanted)))
    if not found.exact:
        batches[0] = min(optim.batch_size, found.count), lengths.max()
    batches[:, 0] *= sides
    held = _in_order(_lengths(found.held, found.held_count), optim.batch_size)
    held[:, 0] *= sides
    parts = [part for row in found.rows for part in row.parts]
    tokens = sum(len(part.input_ids) for part in parts)
    learned = sum(int((np.asarray(part.labels) != -100).sum()) for part in parts)
    whole = round(tokens * found.count / len(found.rows))
    return Shapes(
        batches,
        held,
        steps,
        optim.gradient_accumulation,
        whole,
        learned / max(tokens, 1),
        -(-found.count // optim.batch_size),
    )


def _lengths(rows: Sequence[TokenRow], count: int) -> np.ndarray:
    """Return the lengths of `count` rows, repeating the known ones for rows that were not read."""
    return np.resize(np.array([row.length for row in rows], dtype=np.int64), min(count, 1_000_000))


def _batches(lengths: np.ndarray, size: int, seed: int) -> Iterator[tuple[int, int]]:
    from finetune.training.batches import LengthGrouped

    order = LengthGrouped(lengths, size, seed)
    epoch = 0
    while True:
        order.set_epoch(epoch)
        for batch in order.batches():
            yield len(batch), int(lengths[batch].max())
        epoch += 1


def _in_order(lengths: np.ndarray, size: int) -> np.ndarray:
    """Return the batches of the held-out rows, longest first: `[n, 2]` rows and length."""
    ordered = np.sort(lengths)[::-1]
    parts = [ordered[start : start + size] for start in range(0, len(ordered), size)][:_MOST_BATCHES]
    return np.array([(len(part), int(part[0])) for part in parts], dtype=np.int64).reshape(-1, 2)
