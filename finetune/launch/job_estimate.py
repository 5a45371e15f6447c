"""Roughly how long a job takes and what it costs, before there is one: tokens by what such machines do."""

import re
from dataclasses import dataclass

from core.errors import UserError
from core.references import parse
from core.workspace import Owner, dataset_folder
from finetune.config import RunConfig, Stage
from finetune.launch.job_flavours import Flavour, flavour_named
from finetune.methods import METHODS

START_SECONDS = 240
"""Image, packages and base, on a usual day."""
_CHARACTERS_A_TOKEN = 3.5
_TFLOPS = {"T4": 12, "L4": 30, "A10G": 35, "L40S": 90, "A100": 110, "H100": 250, "H200": 280, "RTX PRO 6000": 130}
"""What training in 16 bits really reaches, about 30 to 40 % of what the maker says."""
_CPU_TFLOPS = 0.03
_OPERATIONS, _ADAPTER_OPERATIONS = 6, 4
"""Operations a weight and token: forward 2, gradients of activations 2 and, where all is trained, of weights 2."""
_NAMED_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([mb])(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Estimate:
    """Seconds and dollars, right within a factor of two or three at best."""

    seconds: int
    usd: float


def estimate(config: RunConfig, rows: Owner | int, flavour: Flavour | str, parameters: float | None = None) -> Estimate:
    """The time and price of a run on a machine, with its start-up. Never exact: say so where it is shown.

    `rows` is the owner of the datasets that the config names, or how many rows each stage has. `parameters` is the
    model's size; by default what its name says ("135M", "7b"), else a billion. Raises UserError for an unknown flavour.
    """
    owner = rows if isinstance(rows, Owner) else Owner("local")
    machine = flavour if isinstance(flavour, Flavour) else flavour_named(flavour, owner)
    tokens = sum(_tokens(config, stage, rows) for stage in config.stages)
    operations = _ADAPTER_OPERATIONS if METHODS[config.method].adapter else _OPERATIONS
    size = parameters or size_by_name(config.model)
    speed = _TFLOPS.get(machine.accelerator or "", 30) * machine.gpus if machine.gpus else _CPU_TFLOPS * machine.cpus
    seconds = START_SECONDS + tokens * size * operations / (speed * 1e12)
    return Estimate(round(seconds), round(seconds / 3600 * machine.usd_per_hour, 4))


def size_by_name(model: str) -> float:
    """How many weights a model has, by its name; a billion where that says nothing."""
    found = _NAMED_SIZE.findall(model.rpartition("/")[2])
    return max(float(number) * (1e6 if unit in "mM" else 1e9) for number, unit in found) if found else 1e9


def _tokens(config: RunConfig, stage: Stage, rows: Owner | int) -> float:
    """Tokens of a stage over all its epochs, evaluations left out."""
    optim, limits = config.optim_of(stage), config.limits
    if isinstance(rows, int):
        count, each = rows, min(limits.max_length, 256.0)
    else:
        count, each = _measured(stage, rows)
    count = min(count, limits.max_rows or count)
    tokens = count * (1 - limits.validation) * min(each, limits.max_length) * optim.epochs
    most = (optim.max_steps or 0) * optim.batch_size * optim.gradient_accumulation * min(each, limits.max_length)
    return min(tokens, most) if most else tokens


def _measured(stage: Stage, owner: Owner) -> tuple[int, float]:
    """Rows, and tokens a row, of the datasets that are imported; a file that is not counts as a thousand rows."""
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
