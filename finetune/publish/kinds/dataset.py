"""An imported dataset as a dataset repository: its rows as parquet, and a card with the import's findings."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.files import write_file
from core.words import say, speaking
from finetune.data.store import ROWS, Dataset
from finetune.publish.formats.build_folder import BuildProgress
from finetune.publish.kinds.request import Cost, PreparedBuild, Request
from finetune.publish.kinds.templates import rendered

if TYPE_CHECKING:
    import pyarrow

TARGET = "data/train.parquet"
_BATCH = 1000
_CARD = 16 * 1024
_SHOWN_ROWS = 5
_TOKEN = re.compile(r"\bhf_(?:oauth_)?[A-Za-z0-9]{20,}")
_TASKS = {"chat": "text-generation", "text": "text-generation", "pair": "translation", "preference": "text-generation"}
_STEPS = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def prepare(request: Request) -> PreparedBuild:
    """Prepare the rows and the card. Raises UserError without a license, and for rows that hold a token of the Hub."""
    dataset, license_key = request.dataset, request.options.known_license()
    size = (dataset.folder / ROWS).stat().st_size

    def write(folder: Path, progress: BuildProgress) -> dict[str, Any]:
        progress.step(say("kinds.writing", file=TARGET))
        rows = _copy(dataset, folder / TARGET, progress)
        facts = facts_of(dataset, rows, license_key)
        write_file(folder / "README.md", card(facts))
        return facts

    return PreparedBuild(Cost({TARGET: size, "README.md": _CARD}), write)


def facts_of(dataset: Dataset, rows: int, license_key: str) -> dict[str, Any]:
    """Return the facts of the card: counts, never rows."""
    report = dataset.report
    with speaking("en"):
        findings = [
            {"title": found.title, "severity": found.severity, "rows": len(found.rows)} for found in report.findings
        ]
    return {
        "id": dataset.id,
        "name": Path(dataset.name).name,
        "kind": dataset.kind,
        "format": report.format,
        "rows_in": report.rows_in,
        "rows": rows,
        "columns": _columns(dataset),
        "statistics": dict(report.statistics),
        "findings": findings,
        "source": dataset.hub_id,
        "license": license_key,
        "size_category": next((name for most, name in _STEPS if rows < most), "n>1M"),
        "task": _TASKS.get(dataset.kind),
    }


def card(facts: dict[str, Any]) -> str:
    """Return the README.md of the repository, in English."""
    from huggingface_hub import DatasetCardData

    tasks = [facts["task"]] if facts["task"] else None
    head = DatasetCardData(
        license=facts["license"],
        task_categories=tasks,
        size_categories=[facts["size_category"]],
        tags=["tunescope"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": TARGET}]}],
    )
    return rendered(
        "dataset.md.jinja", head.to_yaml(), ("id", "kind", "license", "source", "path"), path=TARGET, **facts
    )


def _columns(dataset: Dataset) -> list[str]:
    from pyarrow import parquet

    return [name for name in parquet.read_schema(dataset.folder / ROWS).names if name != "row"]


def _copy(dataset: Dataset, target: Path, progress: BuildProgress) -> int:
    """Copy the rows without their row numbers in the imported file; returns how many there are.

    Raises UserError where a row holds a token of the Hub.
    """
    from pyarrow import parquet

    target.parent.mkdir(parents=True)
    found: list[int] = []
    with parquet.ParquetFile(dataset.folder / ROWS) as source:
        schema = source.schema_arrow
        schema = schema.remove(schema.get_field_index("row"))
        count, size = source.metadata.num_rows, (dataset.folder / ROWS).stat().st_size
        with parquet.ParquetWriter(target, schema, compression="zstd") as writer:
            for batch in source.iter_batches(batch_size=_BATCH):
                found += _with_token(batch)
                writer.write_batch(batch.drop_columns(["row"]))
                progress.add(size * batch.num_rows // max(count, 1))
    if found:
        raise UserError("kinds.token_in_rows", count=len(found), rows=", ".join(map(str, found[:_SHOWN_ROWS])))
    return count


def _with_token(batch: "pyarrow.RecordBatch") -> list[int]:
    """Return the numbers of the rows that contain a token of the Hub."""
    return [row["row"] for row in batch.to_pylist() if any(_TOKEN.search(text) for text in _strings(row))]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
