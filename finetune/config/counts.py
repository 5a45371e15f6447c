"""How many rows a run holds out, and how many steps it makes on the others."""

import math

from core.errors import UserError
from finetune.config.run_config import RunConfig, Stage


def held_out(rows: int, config: RunConfig) -> int:
    """Return how many of `rows` rows are held out: at least one if the config holds out any, and at least one is left
    to train on."""
    share = config.limits.validation
    return min(max(1, round(rows * share)), rows - 1) if share and rows else 0


def check_held_out(rows: int, config: RunConfig, stage: Stage) -> None:
    """Raise UserError where rows are to be held out but there is only one, or where a stage needs held-out rows (early
    stopping, best checkpoint) and has none."""
    rows = min(rows, config.limits.max_rows or rows)
    if not rows or held_out(rows, config):
        return
    if config.limits.validation:
        raise UserError("run.one_row", share=f"{config.limits.validation:g}")
    optim = config.optim_of(stage)
    judged = "early_stopping" if optim.early_stopping else "keep_best" if optim.keep_best else None
    if judged:
        raise UserError("run.none_held_out", field=config.optim_path(config.stages.index(stage), judged))


def total_steps(rows: int, config: RunConfig, stage: Stage) -> int:
    """Return the optimizer steps of a stage over `rows` rows, on one process."""
    optim = config.optim_of(stage)
    batches = math.ceil(rows / optim.batch_size)
    steps = max(1, math.ceil(optim.epochs * math.ceil(batches / optim.gradient_accumulation)))
    return min(steps, optim.max_steps or steps)
