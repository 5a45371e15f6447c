"""Prepares a run: imports its data, fetches its base, and checks that both fit the settings."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError
from core.references import Base, Data, parse, resolve
from core.references import dataset as dataset_of
from core.words import counted, say
from core.workspace import Owner, dataset_folder
from finetune.base_models.network import read_network
from finetune.base_models.trainable import check_four_bit, check_method
from finetune.config.counts import check_held_out, held_out, total_steps
from finetune.config.device import check_processes, choose_device, launch_line
from finetune.config.run_config import DataSource, RunConfig, to_yaml
from finetune.config.yaml_reader import read_mapping
from finetune.methods import METHODS
from finetune.objectives import OBJECTIVES, fitting
from finetune.runs.run import Run

if TYPE_CHECKING:
    from finetune.data.findings import DataFinding
    from finetune.data.store import Dataset
    from inference.models.types import Fetched, Progress

_LOST = ("template", "nothing_learned")
"""The rules of rows that nothing is learned from."""
OnProgress = Callable[["Progress"], None]
FindBase = Callable[[RunConfig, Owner], tuple[str, Path]]
"""A function that returns the base's name, and a folder with its small files."""


def base_of(config: RunConfig, owner: Owner, progress: OnProgress | None, stop: threading.Event | None) -> "Fetched":
    """Fetch the base with the owner's token. Raises UserError, also where it is an adapter, its context is too short or
    the machine lacks the device."""
    from inference.models.locate import fetch

    resolved = resolve(parse(config.model, owner), owner)
    if resolved.adapter is not None:
        raise UserError("run.base_is_adapter", value=config.model)
    fetched = fetch(resolved.base, owner.token, owner=owner, progress=progress, stop=stop)
    check_context(config, fetched.name, fetched.context_length)
    device = choose_device(config)
    check_processes(config, device)
    if METHODS[config.method].four_bit:
        check_four_bit(device)
    read_network(config, fetched.folder)
    return fetched


def check_context(config: RunConfig, name: str, context: int) -> None:
    """Raise UserError where rows may be longer than the model's context."""
    if config.limits.max_length > context:
        raise UserError("run.context", value=config.limits.max_length, model=name, context=context)


def import_data(
    config: RunConfig, owner: Owner, progress: OnProgress | None = None, stop: threading.Event | None = None
) -> RunConfig:
    """Import every file and repository that the config names. Returns the config with datasets in their place.

    `stop` ends it with "models.stopped". Raises UserError also where the config would be too large to be read back from
    the run's folder.
    """
    return _imported(config, owner, owner, progress, stop)[0]


def _imported(
    config: RunConfig, owner: Owner, into: Owner, progress: OnProgress | None, stop: threading.Event | None
) -> tuple[RunConfig, list["Dataset"]]:
    """Import the data as `import_data` does, into the datasets of `into`; also return the datasets of all stages in
    order."""
    found: dict[DataSource, Dataset] = {}
    for stage in config.stages:
        for source in stage.data:
            found[source] = found.get(source) or _dataset(source, owner, into, progress, stop)
            check_kind(found[source], stage.objective)
    for stage in config.stages:
        check_held_out(sum(found[source].report.rows_kept for source in stage.data), config, stage)
    placed = config.with_datasets({source: dataset.id for source, dataset in found.items()})
    read_mapping(to_yaml(placed))
    return placed, [found[source] for stage in config.stages for source in stage.data]


def _dataset(
    source: DataSource, owner: Owner, into: Owner, progress: OnProgress | None, stop: threading.Event | None
) -> "Dataset":
    from finetune.data.importing.importer import import_file, import_hub
    from finetune.data.store import open_dataset

    if source.path is not None:
        path = local_file(source, owner)
        return import_file(path, into, source.mapping, progress=_with_progress(path.name, progress, stop))
    if source.hub is not None:
        where = source.hub, source.config, source.split, source.revision
        return import_hub(*where, into, owner.token, source.mapping, _with_progress(source.hub, progress, stop))
    reference = parse(source.dataset or "", owner)
    if not isinstance(reference, Data):
        raise UserError("core.not_a_dataset", value=source.dataset)
    return open_dataset(dataset_of(reference, owner))


def _with_progress(name: str, progress: OnProgress | None, stop: threading.Event | None) -> Callable[[int, int], None]:
    """Return the progress callback of an import (bytes done and in total): it reports the progress, and raises
    UserError on a stop request."""
    from finetune.data.importing.streams import short_name
    from inference.models.types import Progress

    text = say("run.importing", name=short_name(name))

    def tell(done: int, total: int) -> None:
        if stop is not None and stop.is_set():
            raise UserError("models.stopped")
        if progress is not None:
            progress(Progress(text, done, total))

    tell(0, 0)
    return tell


def local_file(source: DataSource, owner: Owner) -> Path:
    """Return the file that a source names. Raises UserError where it does not exist or the owner has no access to local
    files."""
    path = Path(source.path or "")
    if not owner.local:
        raise UserError("config.path_on_space", value=source.path)
    if not os.path.isfile(path):
        raise UserError("run.file_missing", value=source.path)
    return path


def check_kind(dataset: "Dataset", objective: str) -> None:
    """Raise UserError where the objective cannot learn from rows of this kind; the error names the objectives that
    can."""
    kinds = OBJECTIVES[objective].kinds
    if dataset.kind in kinds:
        return
    able = fitting([dataset.kind])
    others = say("run.kind_for", kind=dataset.kind, objectives=", ".join(able)) if able else say("run.kind_for_none")
    raise UserError(
        "run.kind",
        value=dataset.name,
        id=dataset.id[:12],
        kind=dataset.kind,
        objective=objective,
        allowed=", ".join(kinds),
        others=others,
    )


@dataclass(frozen=True)
class CheckResult:
    """The result of checking a config. `rows` are used (validation included), `steps` is about how many steps the run
    will have, `findings` (by row number) are the rows that are skipped or truncated under this model."""

    config: RunConfig
    model: str
    rows: int
    steps: int
    findings: list["DataFinding"]

    @property
    def launch(self) -> str | None:
        """The command that starts its processes, as a person would type it; None for a single process."""
        count = self.config.compute.processes
        return launch_line(count) if count > 1 else None

    def to_json(self) -> dict[str, object]:
        return {
            "model": self.model,
            "method": self.config.method,
            "rows": self.rows,
            "steps": self.steps,
            "launch": self.launch,
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass(frozen=True)
class RunInputs:
    """The inputs of a check or plan: the config with datasets in place of files, the datasets of each stage, and the
    base."""

    config: RunConfig
    datasets: list[list["Dataset"]]
    base: "Fetched"


@contextmanager
def run_inputs(
    config: RunConfig, owner: Owner, progress: OnProgress | None = None, stop: threading.Event | None = None
) -> Iterator[RunInputs]:
    """Yield data and base for a check or plan; the data imported for it is deleted afterwards. Raises UserError."""
    from finetune.data.importing.importer import temporary_datasets

    with temporary_datasets(owner) as scratch:
        config, datasets = _imported(config, owner, scratch, progress, stop)
        yield RunInputs(config, _by_stage(config, datasets), base_of(config, owner, progress, stop))


def _by_stage(config: RunConfig, datasets: list["Dataset"]) -> list[list["Dataset"]]:
    """Split the datasets of all stages, given in order, by stage."""
    given = iter(datasets)
    return [list(islice(given, len(stage.data))) for stage in config.stages]


def check_run(
    config: RunConfig,
    owner: Owner,
    progress: OnProgress | None = None,
    stop: threading.Event | None = None,
    find_base: FindBase | None = None,
) -> CheckResult:
    """Check data, model and settings together. The base is fetched, as for a start; nothing runs, and the data imported
    for the check is deleted.

    `find_base` finds the base in another way: it gets the config with datasets in place of files and repositories, and
    an owner who has the imported datasets. Raises UserError where a run could not start.
    """
    if find_base is None:
        with run_inputs(config, owner, progress, stop) as found:
            return check_stages(found.config, found.datasets, found.base.name, found.base.folder)
    from finetune.data.importing.importer import temporary_datasets

    with temporary_datasets(owner) as scratch:
        config, datasets = _imported(config, owner, scratch, progress, stop)
        return check_stages(config, _by_stage(config, datasets), *find_base(config, scratch))


def check_imported(config: RunConfig, owner: Owner, model: str, folder: Path) -> CheckResult:
    """Check a config as `look` does, for imported data and a base whose small files are in `folder`."""
    from finetune.data.store import open_dataset

    check_method(config, folder)
    datasets = [
        [open_dataset(dataset_folder(owner, source.dataset or "")) for source in stage.data] for stage in config.stages
    ]
    return check_stages(config, datasets, model, folder)


def check_stages(config: RunConfig, datasets: list[list["Dataset"]], model: str, folder: Path) -> CheckResult:
    """Return the result of checking a config on the datasets of each stage. Raises UserError where a stage has nothing
    to learn."""
    from finetune.data.tokenizing.check import data_findings
    from inference.models.locate import load_tokenizer

    tokenizer, limit = load_tokenizer(folder), config.limits.max_rows
    rows = steps = 0
    findings: list[DataFinding] = []
    for stage, stage_datasets in zip(config.stages, datasets, strict=True):
        count = lost = 0
        for dataset in stage_datasets:
            left = None if limit is None else max(limit - count, 0)
            under_model = data_findings(dataset, tokenizer, config.limits.max_length, left, stage)
            found = _found_in(dataset, left) + under_model
            lost += sum(len(finding.rows) for finding in under_model if finding.rule in _LOST)
            findings += [finding for finding in found if finding not in findings]
            count += min(dataset.report.rows_kept, left) if left is not None else dataset.report.rows_kept
        check_held_out(count, config, stage)
        training = count - held_out(count, config)
        if not training:
            raise UserError("run.no_rows", rows=counted("core.rows", count), held=count)
        if lost >= count:
            raise UserError("run.no_labels", rows=counted("core.rows", count), length=config.limits.max_length)
        rows, steps = rows + count, steps + total_steps(training, config, stage)
    return CheckResult(config, model, rows, steps, findings)


def _found_in(dataset: "Dataset", limit: int | None) -> list["DataFinding"]:
    """Return the findings of the import up to the last of the first `limit` rows: later rows do not concern the run."""
    if limit is None or limit >= dataset.report.rows_kept:
        return dataset.report.findings
    last = max(dataset.numbers(limit), default=0)
    cut = [replace(found, rows=[row for row in found.rows if row <= last]) for found in dataset.report.findings]
    return [found for found in cut if found.rows]


def same_base(run: Run, owner: Owner, progress: OnProgress | None, stop: threading.Event | None) -> "Fetched":
    """Fetch the base that the run started with. Raises UserError where its weights have changed."""
    from inference.models.locate import fetch

    recorded = run.environment()
    reference = parse(str(recorded["base"]), owner)
    assert isinstance(reference, Base), "a run records a base"
    base = fetch(reference, owner.token, owner=owner, progress=progress, stop=stop)
    if base.fingerprint != recorded["fingerprint"]:
        raise UserError(
            "run.base_changed",
            value=run.id,
            base=base.name,
            now=base.fingerprint[:12],
            then=str(recorded["fingerprint"])[:12],
        )
    return base
