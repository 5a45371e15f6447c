"""What is settled before a run starts: its data is imported, its base fetched, both fit the settings."""

import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError
from core.references import Data, parse, resolve
from core.references import dataset as dataset_of
from core.workspace import Owner, dataset_folder
from finetune.config import DataSource, RunConfig, Stage, to_yaml
from finetune.device import check_processes, choose_device
from finetune.objectives import OBJECTIVES
from finetune.plain_yaml import read_mapping

if TYPE_CHECKING:
    from finetune.data.findings import Finding
    from finetune.data.store import Dataset
    from inference.sources import Fetched, Progress

OnProgress = Callable[["Progress"], None]


def base_of(config: RunConfig, owner: Owner, progress: OnProgress | None, stop: threading.Event | None) -> "Fetched":
    """Fetch the base with the owner's token. Raises UserError, also where it is an adapter, reads too few tokens
    or the machine lacks the device."""
    from inference.models import fetch

    resolved = resolve(parse(config.model, owner), owner)
    if resolved.adapter is not None:
        raise UserError("run.base_is_adapter", value=config.model)
    fetched = fetch(resolved.base, owner.token, owner=owner, progress=progress, stop=stop)
    check_context(config, fetched.name, fetched.context_length)
    check_processes(config, choose_device(config))
    return fetched


def check_context(config: RunConfig, name: str, context: int) -> None:
    """Raise UserError where rows may be longer than the model reads."""
    if config.limits.max_length > context:
        raise UserError("run.context", value=config.limits.max_length, model=name, context=context)


def import_data(config: RunConfig, owner: Owner) -> RunConfig:
    """Import every file and repository that the config names. Returns the config with datasets in their place.

    Raises UserError also where the config could not be read back from the run's folder: it would be too large.
    """
    ids: dict[DataSource, str] = {}
    for stage in config.stages:
        for source in stage.data:
            dataset = _dataset(source, owner)
            check_kind(dataset, stage.objective)
            ids[source] = dataset.id
    config = config.with_datasets(ids)
    read_mapping(to_yaml(config))
    return config


def _dataset(source: DataSource, owner: Owner) -> "Dataset":
    from finetune.data.importing import import_file, import_hub
    from finetune.data.store import open_dataset

    if source.path is not None:
        return import_file(local_file(source, owner), owner)
    if source.hub is not None:
        return import_hub(source.hub, source.config, source.split, source.revision, owner, owner.token)
    reference = parse(source.dataset or "", owner)
    if not isinstance(reference, Data):
        raise UserError("core.not_a_dataset", value=source.dataset)
    return open_dataset(dataset_of(reference, owner))


def local_file(source: DataSource, owner: Owner) -> Path:
    """The file that a source names. Raises UserError where there is none or the owner has no files here."""
    path = Path(source.path or "")
    if not owner.local:
        raise UserError("config.path_on_space", value=source.path)
    if not os.path.isfile(path):
        raise UserError("run.file_missing", value=source.path)
    return path


def check_kind(dataset: "Dataset", objective: str) -> None:
    """Raise UserError where the objective cannot learn from rows of this kind."""
    kinds = OBJECTIVES[objective].kinds
    if dataset.kind not in kinds:
        raise UserError(
            "run.kind", value=dataset.id[:12], kind=dataset.kind, objective=objective, allowed=", ".join(kinds)
        )


@dataclass(frozen=True)
class Checked:
    """What a config comes to. `rows` are used (validation included), `steps` about how many the run will have,
    `findings` by row number what the data holds that is left out or cut under this model."""

    config: RunConfig
    model: str
    rows: int
    steps: int
    findings: list["Finding"]

    def to_json(self) -> dict[str, object]:
        return {
            "model": self.model,
            "method": self.config.method,
            "rows": self.rows,
            "steps": self.steps,
            "findings": [finding.to_json() for finding in self.findings],
        }


def look(
    config: RunConfig, owner: Owner, progress: OnProgress | None = None, stop: threading.Event | None = None
) -> Checked:
    """Check data, model and settings together. Data is imported and the base fetched, as a start would; nothing runs.

    Raises UserError where a run could not start.
    """
    config = import_data(config, owner)
    base = base_of(config, owner, progress, stop)
    return look_at(config, owner, base.name, base.folder)


def look_at(config: RunConfig, owner: Owner, model: str, folder: Path) -> Checked:
    """As `look`, for imported data and a base whose small files lie in `folder`."""
    from finetune.data.check import data_findings
    from finetune.data.store import open_dataset
    from inference.models import load_tokenizer

    tokenizer, limit = load_tokenizer(folder), config.limits.max_rows
    rows, findings = 0, []
    for source in config.stages[0].data:
        dataset = open_dataset(dataset_folder(owner, source.dataset or ""))
        left = None if limit is None else max(limit - rows, 0)
        findings += dataset.report.findings + data_findings(dataset, tokenizer, config.limits.max_length, left)
        rows += min(dataset.report.rows_kept, left) if left is not None else dataset.report.rows_kept
    training = rows - held_out(rows, config)
    if not training:
        raise UserError("run.no_rows", rows=rows, held=rows)
    return Checked(config, model, rows, total_steps(training, config, config.stages[0]), findings)


def held_out(rows: int, config: RunConfig) -> int:
    """How many of so many rows are held out: one at least where any are asked for, and one at least is left."""
    share = config.limits.validation
    return min(max(1, round(rows * share)), rows - 1) if share and rows else 0


def total_steps(rows: int, config: RunConfig, stage: Stage) -> int:
    """Optimizer steps of a stage over so many rows, on one process."""
    optim = config.optim_of(stage)
    batches = math.ceil(rows / optim.batch_size)
    steps = max(1, math.ceil(optim.epochs * math.ceil(batches / optim.gradient_accumulation)))
    return min(steps, optim.max_steps or steps)
