"""The caller's datasets: as choices of a dropdown, and one of them opened."""

from core import references
from core.words import counted
from finetune.data.store import Dataset, list_datasets, open_dataset
from ui.web.handler import Caller


def choices(caller: Caller) -> list[tuple[str, str]]:
    """Return the owner's datasets for a dropdown, newest first."""
    return [(_title(dataset), dataset.id) for dataset in list_datasets(caller.owner)]


def _title(dataset: Dataset) -> str:
    rows = counted("core.rows", dataset.report.rows_kept)
    return f"{dataset.name} · {dataset.kind} · {rows} · {dataset.id[:12]}"


def owned(caller: Caller, chosen: str) -> Dataset:
    """Open a dataset of the caller's. Raises UserError for anything else."""
    return open_dataset(references.dataset(references.parse(chosen, caller.owner), caller.owner))
