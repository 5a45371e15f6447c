"""A run's rows: those it trains on, and those it holds out to be measured by."""

import random

from core.errors import UserError
from core.rows import Row
from finetune.config import RunConfig
from finetune.data.store import open_dataset
from finetune.prepare import held_out
from finetune.run import Run


def read_rows(run: Run, config: RunConfig) -> list[Row]:
    """The first `max_rows` rows of the run's datasets, which lie beside it. Raises UserError where one is missing."""
    rows: list[Row] = []
    for source in config.stages[0].data:
        folder = run.datasets / str(source.dataset)
        if not folder.is_dir():
            raise UserError("run.data_missing", value=source.dataset)
        left = config.limits.max_rows - len(rows) if config.limits.max_rows else None
        rows += open_dataset(folder).rows(left)
    return rows


def split(rows: list[Row], config: RunConfig) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows held out, both in file order; the seed decides which."""
    held = set(random.Random(config.seed).sample(range(len(rows)), held_out(len(rows), config)))
    return [row for place, row in enumerate(rows) if place not in held], [rows[place] for place in sorted(held)]


def held_out_rows(run: Run) -> list[Row]:
    """The rows that the run never learns from, in file order. Raises UserError where its data are gone."""
    config = run.config()
    return split(read_rows(run, config), config)[1]
