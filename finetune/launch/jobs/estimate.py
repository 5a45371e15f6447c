"""A rough estimate of a job's time and cost before its base model and data are here: tokens by the speed of such
machines.

`finetune/plan` is more exact, once they are.
"""

import re
from dataclasses import dataclass

from core.errors import UserError
from core.references import parse
from core.workspace import Owner, dataset_folder
from finetune.config.run_config import RunConfig, Stage
from finetune.launch.jobs.flavors import flavor_named
from finetune.methods import METHODS
from finetune.objectives import OBJECTIVES
from finetune.plan.machines import START_SECONDS, Flavor, chip_of, seconds_on

_CHARACTERS_A_TOKEN = 3.5
_NAMED_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([mb])(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class JobEstimate:
    """Seconds and dollars, right within a factor of two or three at best."""

    seconds: int
    usd: float


def estimate(
    config: RunConfig, rows: Owner | int, flavor: Flavor | str, parameters: float | None = None
) -> JobEstimate:
    """Return the time and price of a run on a machine, with its start-up. Never exact: say so where it is shown.

    `rows` is the owner of the datasets that the config names, or how many rows each stage has. `parameters` is the
    model's size; by default what its name says ("135M", "7b"), else a billion. Raises UserError for an unknown flavor.
    """
    owner = rows if isinstance(rows, Owner) else Owner("local")
    machine = flavor if isinstance(flavor, Flavor) else flavor_named(flavor, owner)
    size = parameters or size_by_name(config.model)
    passes = 4 if METHODS[config.method].adapter else 6
    operations = _tokens(config, rows) * size * passes
    chip = chip_of(machine.accelerator) if machine.gpus else None
    seconds = START_SECONDS + seconds_on(chip, machine.cpus, operations / max(machine.gpus, 1), 0.0, 0)
    return JobEstimate(round(seconds), round(seconds / 3600 * machine.usd_per_hour, 4))


def size_by_name(model: str) -> float:
    """Return the number of weights that a model's name states; a billion where it states none."""
    found = _NAMED_SIZE.findall(model.rpartition("/")[2])
    return max(float(number) * (1e6 if unit in "mM" else 1e9) for number, unit in found) if found else 1e9


def _tokens(config: RunConfig, rows: Owner | int) -> float:
    """Return the tokens over all stages and epochs, without evaluations."""
    return sum(_of_stage(config, stage, rows) for stage in config.stages)


def _of_stage(config: RunConfig, stage: Stage, rows: Owner | int) -> float:
    optim, limits = config.optim_of(stage), config.limits
    if isinstance(rows, int):
        count, row_tokens = rows, min(limits.max_length, 256.0)
    else:
        count, row_tokens = _measured(stage, rows)
    count = min(count, limits.max_rows or count)
    tokens_per_row = min(row_tokens, limits.max_length) * (2 if OBJECTIVES[stage.objective].pairs else 1)
    tokens = count * (1 - limits.validation) * tokens_per_row * optim.epochs
    most = (optim.max_steps or 0) * optim.batch_size * optim.gradient_accumulation * tokens_per_row
    return min(tokens, most) if most else tokens


def _measured(stage: Stage, owner: Owner) -> tuple[int, float]:
    """Return rows, and tokens per row, of the imported datasets; a file that is not imported counts as 1000 rows."""
    from finetune.data.store import open_dataset

    count, characters = 0, 0
    for source in stage.data:
        try:
            report = open_dataset(dataset_folder(owner, str(parse(source.dataset or "", owner)))).report
        except UserError:
            count, characters = count + 1000, characters + 1_000_000
            continue
        count += report.rows_kept
        characters += report.statistics.get("characters", 1000 * report.rows_kept)
    return count, characters / max(count, 1) / _CHARACTERS_A_TOKEN
