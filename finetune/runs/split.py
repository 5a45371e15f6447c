"""A run's rows: those it trains on, and those it holds out for validation."""

import random
from collections.abc import Iterator
from pathlib import Path

from core.errors import UserError
from core.rows import Row
from finetune.config.counts import held_out
from finetune.config.run_config import RunConfig, Stage
from finetune.data.store import open_dataset
from finetune.runs.run import Run


def iterate_rows(run: Run, config: RunConfig, stage: Stage | None = None) -> Iterator[Row]:
    """Yield the first `max_rows` rows of a stage's datasets (the first stage's by default), which are in the run's
    workspace, reading them as needed. Raises UserError where a dataset is missing."""
    left = config.limits.max_rows
    for folder in _folders(run, stage or config.stages[0]):
        dataset = open_dataset(folder)
        yield from dataset.iterate(left)
        left = None if left is None else max(left - dataset.report.rows_kept, 0)


def count_rows(run: Run, config: RunConfig, stage: Stage | None = None) -> int:
    """Return how many rows `iterate_rows` yields."""
    rows = sum(open_dataset(folder).report.rows_kept for folder in _folders(run, stage or config.stages[0]))
    return min(rows, config.limits.max_rows or rows)


def _folders(run: Run, stage: Stage) -> list[Path]:
    folders = [run.datasets / str(source.dataset) for source in stage.data]
    for folder in folders:
        if not folder.is_dir():
            raise UserError("run.data_missing", value=folder.name)
    return folders


def held_indices(rows: int, config: RunConfig) -> set[int]:
    """Return the indices of the held-out rows of `rows` rows, chosen by the seed."""
    return set(random.Random(config.seed).sample(range(rows), held_out(rows, config)))


def split_rows(run: Run, config: RunConfig, stage: Stage | None = None, *, held: bool) -> Iterator[tuple[int, Row]]:
    """Yield the rows to train on or, with `held`, the held-out ones, in file order with their numbers (from 1)."""
    chosen = held_indices(count_rows(run, config, stage), config)
    for index, row in enumerate(iterate_rows(run, config, stage)):
        if (index in chosen) == held:
            yield index + 1, row


def held_out_rows(run: Run, stage: Stage | None = None) -> list[Row]:
    """Return the rows that the run never learns from, in file order. Raises UserError where its data is missing."""
    return [row for _, row in split_rows(run, run.config(), stage, held=True)]
