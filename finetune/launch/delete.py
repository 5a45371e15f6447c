"""Delete a run or a dataset for good: it disappears in one step, its disk space is freed afterwards."""

import os
import shutil
import uuid
from pathlib import Path

from core import changes
from core.errors import UserError
from core.references import Data, parse
from core.references import Run as RunReference
from core.references import dataset as dataset_of
from core.workspace import Owner, run_folder
from finetune.runs.job_record import job_of, remember_removed
from finetune.runs.lock import take
from finetune.runs.run import Run, list_runs

_GONE = ".gone"


def remove(text: str, owner: Owner) -> str:
    """Delete the owner's run or dataset with that id (never a folder elsewhere) and return the full id.

    Raises UserError where there is none, where the run is running, or where a running run reads the dataset. What a
    rented job stored in private repositories on the Hub stays there.
    """
    reference = parse(text.strip(), owner)
    if isinstance(reference, RunReference):
        return _remove_run(Run(run_folder(owner, reference.id)))
    if isinstance(reference, Data):
        return _remove_dataset(dataset_of(reference, owner), owner)
    raise UserError("run.not_removable", value=text[:80])


def _remove_run(run: Run) -> str:
    lock = take(run)
    try:
        record = job_of(run)
        if record is not None and record.active:
            raise UserError("run.alive", value=run.id)
        if record is not None:
            remember_removed(run)
        gone = _rename(run.folder)
    finally:
        os.close(lock)
    _free(gone)
    return run.id


def _remove_dataset(folder: Path, owner: Owner) -> str:
    for run in list_runs(owner):
        read = {source.dataset for stage in run.config().stages for source in stage.data}
        if run.alive() and any(name and folder.name.startswith(name) for name in read):
            raise UserError("run.dataset_in_use", value=folder.name[:12], run=run.id)
    _free(_rename(folder))
    return folder.name


def _rename(folder: Path) -> Path:
    """Hide a folder, since names that begin with a dot are ignored, and mark its backups for deletion."""
    changes.mark_deleted(folder)
    gone = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}{_GONE}")
    os.rename(folder, gone)
    return gone


def _free(gone: Path) -> None:
    """Delete a hidden folder, and those left by processes that were killed before they had deleted theirs."""
    for folder in gone.parent.glob(f".*{_GONE}"):
        shutil.rmtree(folder, ignore_errors=True)
