"""From a file or a Hub dataset to a stored dataset: one pass that reads, converts, checks and writes."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from core import changes
from core import limits as bounds
from core.errors import UserError
from core.files import full_disk_in_words
from core.words import counted
from core.workspace import Owner
from finetune.config.mapping import Mapping
from finetune.data.findings import placed
from finetune.data.importing.pipeline import Intake
from finetune.data.importing.raw_rows import OnProgress
from finetune.data.importing.streams import inspect_file, short_name
from finetune.data.limits import LIMITS, ImportLimits
from finetune.data.report import Report
from finetune.data.store import Dataset, add, write_rows

_SCRATCH = ".import-"
_LOOK = ".look-"
_STALE_SECONDS = 24 * 3600


def check_file(path: Path, mapping: Mapping | None = None, limits: ImportLimits = LIMITS) -> Report:
    """Read, recognize and check a file without storing anything.

    Raises UserError for a file that cannot be read at all or whose columns match no format.
    """
    intake = Intake([inspect_file(path, limits)], mapping, limits)
    for _ in intake:
        pass
    return intake.report()


def import_file(
    path: Path,
    owner: Owner,
    mapping: Mapping | None = None,
    source_name: str | None = None,
    progress: OnProgress | None = None,
    limits: ImportLimits = LIMITS,
) -> Dataset:
    """Convert a file into a dataset of the owner. The same content gives the same dataset, stored once.

    `progress` is called with bytes done and in total; an exception that it raises stops the import. Raises UserError
    for a file that cannot be read or of which no row is kept. Nothing is left on disk in either case.
    """
    file = inspect_file(path, limits, source_name)
    return _store(Intake([file], mapping, limits, progress), owner, file.name, {"type": "file", "name": file.name})


def import_hub(
    repo_id: str,
    config: str | None,
    split: str | None,
    revision: str | None,
    owner: Owner,
    token: str | bool,
    mapping: Mapping | None = None,
    progress: OnProgress | None = None,
    limits: ImportLimits = LIMITS,
) -> Dataset:
    """Import one split of a dataset repository on the Hub, pinned to its current commit.

    `progress` is called with bytes done and in total, while downloading and again while reading. Raises UserError where
    the Hub cannot be reached, the name is wrong, access is denied, or several configs or splits exist and none was
    chosen (the sentence lists them).
    """
    from core.hub.reach import naming_scopes
    from finetune.data.importing.hub import download, find_split

    with naming_scopes(owner):
        found = find_split(repo_id, config, split, revision, owner, token)
    with tempfile.TemporaryDirectory(prefix="tunescope-hub-") as folder:
        with full_disk_in_words(Path(folder)), naming_scopes(owner):
            paths = download(found, Path(folder), token, progress, limits)
        files = [inspect_file(path, limits) for path in paths]
        return _store(Intake(files, mapping, limits, progress), owner, short_name(found.title), found.source())


@dataclass(frozen=True, repr=False)
class _Scratch(Owner):
    """An owner with another datasets folder."""

    datasets_folder: Path = Path()

    @property
    def datasets(self) -> Path:
        return self.datasets_folder


@contextmanager
def temporary_datasets(owner: Owner) -> Iterator[Owner]:
    """Yield the owner with an empty datasets folder, which is deleted afterwards with everything imported into it."""
    owner.datasets.mkdir(parents=True, exist_ok=True)
    _sweep(owner.datasets)
    with tempfile.TemporaryDirectory(prefix=_LOOK, dir=owner.datasets, ignore_cleanup_errors=True) as scratch:
        facts = {field.name: getattr(owner, field.name) for field in fields(Owner)}
        yield _Scratch(**facts, datasets_folder=Path(scratch))


def _store(intake: Intake, owner: Owner, name: str, source: dict[str, Any]) -> Dataset:
    owner.datasets.mkdir(parents=True, exist_ok=True)
    _sweep(owner.datasets)
    bounds.check_disk(owner)
    with (
        full_disk_in_words(owner.datasets),
        tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=owner.datasets) as scratch,
    ):
        rows = Path(scratch) / "rows"
        identity = write_rows(rows, intake.mapping.kind, intake)
        report = intake.report()
        if not report.usable:
            read = counted("core.rows", report.rows_in)
            raise UserError("data.nothing_left", name=name, rows=read, findings=_summary(report))
        if not (owner.datasets / identity).exists():
            bounds.check_disk(owner, rows.stat().st_size)
        dataset = add(owner, rows, identity, report, name, source)
    changes.signal_change()
    return dataset


def _sweep(datasets: Path) -> None:
    """Remove what imports left that were killed more than a day ago; other imports may run at the same time."""
    for folder in [path for name in (f"{_SCRATCH}*", f"{_LOOK}*", ".*.part") for path in datasets.glob(name)]:
        with suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _summary(report: Report) -> str:
    return " ".join(f"{placed(found)}." for found in report.findings)
