"""From files to raw rows: an object each, or None for a row that cannot be read.

Rows are counted from 1 in file order, including those that cannot be read; blank lines and the header of a table are
not rows. The content of a file decides how it is read, not its extension alone.
"""

import csv
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO, TextIO

from core.errors import UserError
from core.words import is_utf8
from finetune.data.importing import json_rows
from finetune.data.importing.streams import DataFile, open_bytes, open_text
from finetune.data.limits import LIMITS, MIB, ImportLimits

RawRow = dict[str, Any] | None
OnProgress = Callable[[int, int], None]
TEXT = "text"
_PARQUET_BATCH = 64
_PARQUET_BATCH_BYTES = 64 * MIB
_PARQUET_CHUNK = 1024 * MIB
_PARQUET_VALUES = 50_000_000
_TOLD_EVERY = 256


def file_format(file: DataFile, limits: ImportLimits = LIMITS) -> str:
    """Return the format of a file's content: json, jsonl, csv, tsv, parquet or txt, with ".gz" where it is
    compressed."""
    end = ".gz" if file.gzipped else ""
    if file.parquet:
        return "parquet" + end
    if file.named in ("json", "jsonl"):
        return ("jsonl" if _layout(file, limits) == "lines" else "json") + end
    return file.named + end


def raw_rows(file: DataFile, limits: ImportLimits = LIMITS, progress: OnProgress | None = None) -> Iterator[RawRow]:
    """Yield the rows of a file in order.

    `progress` is called with bytes read and in total. Raises UserError where the file as a whole cannot be read or has
    more than `limits.rows` rows.
    """
    inside = file_format(file, limits).removesuffix(".gz")
    for count, (row, position) in enumerate(_READERS[inside](file, limits), start=1):
        if count > limits.rows:
            raise UserError("data.too_many_rows", name=file.name, most=limits.rows)
        if progress and count % _TOLD_EVERY == 0:
            progress(min(position(), file.size), file.size)
        yield row if isinstance(row, dict) and row and is_utf8("".join(row)) else None
    if progress:
        progress(file.size, file.size)


_Rows = Iterator[tuple[Any, Callable[[], int]]]


def _layout(file: DataFile, limits: ImportLimits) -> json_rows.Layout:
    with open_text(file, limits) as (text, _):
        return json_rows.layout(text, file.named, limits)


def _json_lines(file: DataFile, limits: ImportLimits) -> _Rows:
    with open_text(file, limits) as (text, raw):
        for value in json_rows.from_lines(text, limits):
            yield value, raw.tell


def _json(file: DataFile, limits: ImportLimits) -> _Rows:
    whole = _layout(file, limits) == "document"
    with open_text(file, limits) as (text, raw):
        read = json_rows.from_document if whole else json_rows.from_array
        for value in read(text, limits, file.name):
            yield value, raw.tell


def _table(file: DataFile, limits: ImportLimits) -> _Rows:
    csv.field_size_limit(limits.row_characters)
    with open_text(file, limits) as (text, _):
        delimiter = delimiter_of(file, text.readline(limits.row_characters))
    with open_text(file, limits, newline="") as (text, raw):
        for row in _cells(text, delimiter, file, limits):
            yield row, raw.tell


def delimiter_of(file: DataFile, header: str) -> str:
    """Return a tab for .tsv, a comma for .csv; where the header has none of it, the one of tab, semicolon or comma that
    it has."""
    usual = "\t" if file.named == "tsv" else ","
    if usual in header:
        return usual
    return max(("\t", ";", ","), key=header.count) if any(mark in header for mark in "\t;,") else usual


def _cells(text: TextIO, delimiter: str, file: DataFile, limits: ImportLimits) -> Iterator[RawRow]:
    reader = csv.reader(_BoundedLines(text, limits.row_characters), delimiter=delimiter, strict=True)
    names: list[str] = []
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if not names:
                raise UserError("data.header", name=file.name) from error
            yield None
            continue
        if not cells or (len(cells) == 1 and not cells[0].strip() and len(names) != 1):
            continue
        if not names:
            names = _header(cells, file, limits)
        else:
            yield dict(zip(names, cells, strict=True)) if len(cells) == len(names) else None


class _BoundedLines:
    """The lines of a table. A line longer than the limit of a row is never held in memory: it raises csv.Error."""

    def __init__(self, text: TextIO, most: int) -> None:
        self._text, self._most = text, most

    def __iter__(self) -> "_BoundedLines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._most + 1)
        if not line:
            raise StopIteration
        if len(line) > self._most and not line.endswith(("\n", "\r")):
            while len(rest := self._text.readline(MIB)) == MIB and not rest.endswith(("\n", "\r")):
                pass
            raise csv.Error("a line longer than a row may be")
        return line


def _header(cells: list[str], file: DataFile, limits: ImportLimits) -> list[str]:
    names = [cell.strip() or f"column {number}" for number, cell in enumerate(cells, start=1)]
    if len(names) > limits.columns or len(set(names)) < len(names):
        raise UserError("data.header", name=file.name)
    return names


def _parquet(file: DataFile, limits: ImportLimits) -> _Rows:
    if not file.gzipped:
        with file.path.open("rb") as raw:
            yield from _parquet_rows(raw, file, limits)
        return
    with tempfile.TemporaryFile() as unpacked:
        with open_bytes(file, limits) as (stream, _):
            shutil.copyfileobj(stream, unpacked, MIB)
        yield from _parquet_rows(unpacked, file, limits)


def _parquet_rows(source: BinaryIO, file: DataFile, limits: ImportLimits) -> _Rows:
    import pyarrow as pa
    from pyarrow import parquet

    seen = 0
    try:
        rows_at_once = _measured(source, file, limits)
        table = parquet.ParquetFile(source)
        for batch in table.iter_batches(batch_size=rows_at_once):
            seen += batch.nbytes
            if seen > limits.expanded_bytes:
                raise UserError("data.expands", name=file.name, most=limits.expanded_bytes // MIB)
            for row in _batch_rows(batch):
                yield row, partial(min, seen, file.size)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError("data.not_parquet", name=file.name) from error


def _measured(source: BinaryIO, file: DataFile, limits: ImportLimits) -> int:
    """Return how many rows to read together. Raises UserError where all of them would expand too far.

    A column may repeat one long text a million times in a few bytes. So texts are first read dictionary-encoded, as the
    file stores them, and their lengths are added up.
    """
    from pyarrow import parquet

    metadata = parquet.ParquetFile(source).metadata
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    too_far = UserError("data.expands", name=file.name, most=limits.expanded_bytes // MIB)
    if any(chunk.num_values > _PARQUET_VALUES or chunk.total_uncompressed_size > _PARQUET_CHUNK for chunk in chunks):
        raise too_far
    named = sorted({chunk.path_in_schema for chunk in chunks if chunk.physical_type == "BYTE_ARRAY"})
    table = parquet.ParquetFile(source, read_dictionary=named)
    total, largest = 0, 1
    for batch in table.iter_batches(batch_size=_PARQUET_BATCH):
        size = sum(_expanded(column) for column in batch.columns)
        total, largest = total + size, max(largest, size)
        if total > limits.expanded_bytes:
            raise too_far
    return max(1, min(_PARQUET_BATCH, _PARQUET_BATCH * _PARQUET_BATCH_BYTES // largest))


def _expanded(array: Any) -> int:
    """Return the bytes that the values of an array take when each is written out."""
    import pyarrow as pa
    from pyarrow import compute

    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = compute.binary_length(array.dictionary)
        return compute.sum(lengths.take(array.indices)).as_py() or 0
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_struct(kind):
        inner = array.flatten()
        return sum(map(_expanded, inner)) if isinstance(inner, list) else _expanded(inner)
    return array.nbytes


def _batch_rows(batch: Any) -> list[RawRow]:
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        return [_one_row(batch.slice(index, 1)) for index in range(batch.num_rows)]


def _one_row(batch: Any) -> RawRow:
    try:
        return batch.to_pylist()[0]
    except UnicodeDecodeError:
        return None


def has_blank_lines(file: DataFile, limits: ImportLimits = LIMITS) -> bool:
    """Return whether the documents of a text file are separated by blank lines."""
    started = blank = False
    with open_text(file, limits) as (text, _):
        while line := text.readline(MIB):
            if line.strip(" \t\r\n\ufeff"):
                if blank:
                    return True
                started = True
            else:
                blank = started
    return False


def _documents(file: DataFile, limits: ImportLimits) -> _Rows:
    """Yield the documents of a text file: separated by blank lines, or one per line where there are no blank lines."""
    apart = has_blank_lines(file, limits)
    with open_text(file, limits) as (text, raw):
        for document in _paragraphs(text, limits) if apart else json_rows.lines(text, limits):
            yield None if document is None else {TEXT: document}, raw.tell


def _paragraphs(text: TextIO, limits: ImportLimits) -> Iterator[str | None]:
    kept: list[str] = []
    length = 0
    most = limits.row_characters
    while line := text.readline(most):
        blank = not line.strip(" \t\r\n\ufeff")
        if not blank:
            length += len(line)
            if length <= most:
                kept.append(line.replace("\r\n", "\n"))
        elif length:
            yield "".join(kept).strip("\n\ufeff") if length <= most else None
            kept, length = [], 0
    if length:
        yield "".join(kept).strip("\n\ufeff") if length <= most else None


_READERS: dict[str, Callable[[DataFile, ImportLimits], _Rows]] = {
    "json": _json,
    "jsonl": _json_lines,
    "csv": _table,
    "tsv": _table,
    "parquet": _parquet,
    "txt": _documents,
}
