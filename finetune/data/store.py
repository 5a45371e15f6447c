"""Datasets on disk: immutable folders named by their content, `<owner>/datasets/<sha256>/`.

A folder holds `rows.parquet` (nested columns, and `row`, the number in the source file, which is not part of the
id) and `report.json`. The name is the SHA-256 of `{"kind":...,"rows":[...]}` as canonical JSON.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import logs
from core.errors import UserError
from core.files import new_folder, read_json, write_json
from core.rows import KINDS, ChatRow, PairRow, PreferenceRow, Row, TextRow
from core.workspace import Owner
from finetune.config.mapping import Mapping
from finetune.data.findings import DataFinding
from finetune.data.limits import MIB
from finetune.data.report import KeptRow, Report

if TYPE_CHECKING:
    import pyarrow

ROWS, REPORT = "rows.parquet", "report.json"
_EXAMPLE = Path(__file__).with_name("example.jsonl")
_BATCH = 1000
_PARTS = 20
_BATCH_BYTES = 16 * MIB


@dataclass(frozen=True)
class Dataset:
    """One stored dataset. `id` is the SHA-256 of its kind and rows; `report` is that of its import (of the current
    import if it was just imported); `source` says where it came from; `known` whether the import found it already
    stored."""

    id: str
    folder: Path
    kind: str
    name: str
    report: Report
    source: dict[str, Any]
    created: str
    known: bool = False

    @property
    def hub_id(self) -> str | None:
        """The Hub repository that the dataset was imported from, if any."""
        return str(self.source["repo_id"]) if self.source.get("type") == "hub" else None

    def rows(self, limit: int | None = None) -> list[Row]:
        """Return the first `limit` rows (all by default), in file order."""
        return list(self.iterate(limit))

    def iterate(self, limit: int | None = None) -> Iterator[Row]:
        """Iterate over the same rows as `rows`, reading them as needed."""
        return (row for row, _ in self._numbered(limit))

    def numbers(self, limit: int | None = None) -> list[int]:
        """Return the number that each row had in its file (1-based), for the same rows as `rows`."""
        from pyarrow import parquet

        return parquet.read_table(self.folder / ROWS, columns=["row"]).column("row").slice(0, limit).to_pylist()

    def spread(self, limit: int, most: int) -> Iterator[tuple[int, Row]]:
        """Yield at most `most` of the first `limit` rows with their indices (from 0), spread evenly over them: of a
        large dataset only some row groups of the file are read."""
        from pyarrow import parquet

        with parquet.ParquetFile(self.folder / ROWS) as table:
            begins = [0]
            for group in range(table.num_row_groups):
                begins.append(begins[-1] + table.metadata.row_group(group).num_rows)
            groups = [index for index, begin in enumerate(begins[:-1]) if begin < limit]
            read = groups[:: -(-len(groups) // _PARTS)]
            group_share = max(most // max(len(read), 1), 1)
            for group in read:
                rows = min(begins[group + 1], limit) - begins[group]
                indices = list(range(0, rows, -(-rows // group_share)))
                taken = table.read_row_group(group).take(indices).drop_columns("row")
                for index, row in zip(indices, taken.to_pylist(), strict=True):
                    yield begins[group] + index, _loaded(self.kind, row)

    def table(self) -> "pyarrow.Table":
        """Return all rows as stored, with nested columns, and their number in the file (`row`)."""
        from pyarrow import parquet

        return parquet.read_table(self.folder / ROWS)

    def _numbered(self, limit: int | None) -> Iterator[tuple[Row, int]]:
        from pyarrow import parquet

        size = min(_BATCH, limit or _BATCH)
        with parquet.ParquetFile(self.folder / ROWS) as table:
            stored = (row for batch in table.iter_batches(batch_size=size) for row in batch.to_pylist())
            for row in islice(stored, limit):
                number = row.pop("row")
                yield _loaded(self.kind, row), number


def write_rows(path: Path, kind: str, rows: Iterable[KeptRow]) -> str:
    """Write rows into a parquet file as they arrive and return the id of their dataset."""
    from pyarrow import Table, parquet

    digest = hashlib.sha256(f'{{"kind":"{kind}","rows":['.encode())
    schema = _schema(kind)
    first = True
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(rows):
            digest.update((b"" if first else b",") + b",".join(kept.canonical for kept in batch))
            first = False
            stored = [_stored(kept) for kept in batch]
            writer.write_table(Table.from_pylist(stored, schema=schema))
    digest.update(b"]}")
    return digest.hexdigest()


def _batches(rows: Iterable[KeptRow]) -> Iterator[list[KeptRow]]:
    """Yield the rows in batches that are written together: few enough to hold several copies of them in memory."""
    batch: list[KeptRow] = []
    size = 0
    for kept in rows:
        batch.append(kept)
        size += len(kept.canonical)
        if len(batch) == _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _schema(kind: str) -> "pyarrow.Schema":
    import pyarrow as pa

    text = pa.string()
    turns = pa.list_(pa.struct([("role", text), ("content", text)]))
    columns: dict[str, list[tuple[str, pa.DataType]]] = {
        "chat": [("messages", turns), ("tools", text)],
        "text": [("text", text)],
        "pair": [("source", text), ("target", text)],
        "preference": [("prompt", turns), ("chosen", turns), ("rejected", turns)],
    }
    return pa.schema([*columns[kind], ("row", pa.int64())], metadata={"kind": kind})


def _stored(kept: KeptRow) -> dict[str, Any]:
    """Return a row as its parquet columns; tools, which have no fixed schema, as JSON."""
    row = kept.row.model_dump()
    if row.get("tools"):
        row["tools"] = json.dumps(row["tools"], ensure_ascii=False)
    return {**row, "row": kept.number}


def _loaded(kind: str, row: dict[str, Any]) -> Row:
    if row.get("tools"):
        row["tools"] = json.loads(row["tools"])
    return KINDS[kind](**row)


def add(owner: Owner, rows: Path, identity: str, report: Report, name: str, source: dict[str, Any]) -> Dataset:
    """Move a written parquet file into the dataset folder of its id; an existing dataset stays unchanged."""
    folder = owner.datasets / identity
    known = (folder / REPORT).is_file()
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if not known:
        with new_folder(folder) as part:
            os.replace(rows, part / ROWS)
            write_json(
                part / REPORT, {"id": identity, "name": name, "created": created, "source": source} | _facts(report)
            )
    stored = open_dataset(folder)
    return Dataset(identity, folder, report.kind, stored.name, report, stored.source, stored.created, known)


def _facts(report: Report) -> dict[str, Any]:
    """Return a report without its sentences, which are made again in the reader's language."""
    return {
        "kind": report.kind,
        "format": report.format,
        "file_format": report.file_format,
        "mapping": report.mapping.model_dump(exclude_none=True) if report.mapping else None,
        "columns": report.columns,
        "evidence": report.evidence,
        "rows_in": report.rows_in,
        "rows_kept": report.rows_kept,
        "findings": [
            {"rule": found.rule, "severity": found.severity, "rows": found.rows, "facts": found.facts}
            for found in report.findings
        ],
        "statistics": report.statistics,
    }


def open_dataset(folder: Path) -> Dataset:
    """Open the dataset in a folder. Raises UserError where the folder holds none."""
    if not (folder / REPORT).is_file() or not (folder / ROWS).is_file():
        raise UserError("data.no_dataset", name=folder.name[:80])
    facts = read_json(folder / REPORT)
    report = Report(
        kind=facts["kind"],
        format=facts["format"],
        rows_in=facts["rows_in"],
        rows_kept=facts["rows_kept"],
        findings=[DataFinding(**found) for found in facts["findings"]],
        file_format=facts["file_format"],
        mapping=Mapping(**facts["mapping"]) if facts["mapping"] else None,
        evidence=facts["evidence"],
        columns=facts["columns"],
        statistics=facts["statistics"],
    )
    return Dataset(facts["id"], folder, facts["kind"], facts["name"], report, facts["source"], facts["created"])


def list_datasets(owner: Owner) -> list[Dataset]:
    """Return the owner's datasets, newest first. A dataset whose report is damaged is skipped and logged."""
    folders = [path.parent for path in owner.datasets.glob(f"*/{REPORT}") if not path.parent.name.startswith(".")]
    found = [dataset for folder in folders if (dataset := _opened(folder)) is not None]
    return sorted(found, key=lambda dataset: (dataset.created, dataset.id), reverse=True)


def _opened(folder: Path) -> Dataset | None:
    try:
        return open_dataset(folder)
    except (UserError, OSError, ValueError, KeyError, TypeError) as error:
        logs.event("damaged_dataset", logging.WARNING, id=folder.name[:24], kind=type(error).__name__)
        return None


def example_file() -> Path:
    """Return the path of the shipped example: 60 conversations, two thirds English, one third Chinese."""
    return _EXAMPLE


def texts_of(row: Row) -> list[str]:
    """Return the texts of a row, one for each turn."""
    if isinstance(row, ChatRow):
        return [message.content for message in row.messages]
    if isinstance(row, PreferenceRow):
        return [message.content for message in (*row.prompt, *row.chosen, *row.rejected)]
    if isinstance(row, PairRow):
        return [row.source, row.target]
    return [row.text] if isinstance(row, TextRow) else []
