"""Opens data files: compressed or not, in any supported encoding, and never larger than the limits allow."""

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from core.errors import UserError
from finetune.data.limits import LIMITS, MIB, ImportLimits

EXTENSIONS = ("json", "jsonl", "csv", "tsv", "parquet", "txt")
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_OTHER = {
    b"PK\x03\x04": "ZIP, Excel (.xlsx)",
    b"\x1f\x8b": "gzip in gzip",
    b"%PDF": "PDF",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"7z\xbc\xaf": "7-Zip",
    b"ARROW1": "Arrow",
    b"SQLite format 3": "SQLite",
    b"\xd0\xcf\x11\xe0": "Excel (.xls)",
}
_HEAD = 4096


@dataclass(frozen=True)
class DataFile:
    """A file that may hold rows: its path, its name for people, and what its first bytes and its name say.

    `named` is its extension without ".gz"; `size` is in bytes on disk.
    """

    path: Path
    name: str
    named: str
    gzipped: bool
    parquet: bool
    encoding: str
    size: int


def short_name(name: str, most: int = 80) -> str:
    """Return a file or column name for display: one line, at most `most` characters, no broken characters."""
    text = "".join(letter if letter.isprintable() else " " for letter in name)
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= most else text[: most - 1] + "…"


def inspect_file(path: Path, limits: ImportLimits = LIMITS, name: str | None = None) -> DataFile:
    """Read a file's name, size and first bytes.

    Raises UserError where the file does not exist, is empty or too large, its extension is not supported, or its
    content is something else.
    """
    label = short_name((name or path.name).replace("\\", "/").rsplit("/", 1)[-1])
    named = _extension(path, label)
    if not os.path.isfile(path):
        raise UserError("data.no_file", name=label)
    size = path.stat().st_size
    if size == 0:
        raise UserError("data.empty", name=label)
    if size > limits.file_bytes:
        raise UserError("data.too_large", name=label, size=size // MIB, most=limits.file_bytes // MIB)
    file = DataFile(path, label, named, _gzipped(path, label), False, "utf-8", size)
    with open_bytes(file, limits) as (stream, _):
        head = stream.read(_HEAD)
    return _recognize_bytes(file, head)


def _extension(path: Path, label: str) -> str:
    parts = path.name.lower().split(".")
    if len(parts) > 1 and parts[-1] == "gz":
        parts.pop()
    if len(parts) < 2 or parts[-1] not in EXTENSIONS:
        raise UserError("data.extension", name=label, extensions=", ".join(f".{end}" for end in EXTENSIONS))
    return parts[-1]


def _gzipped(path: Path, label: str) -> bool:
    try:
        with path.open("rb") as raw:
            gzipped = raw.read(2) == b"\x1f\x8b"
    except OSError as error:
        raise UserError("data.cannot_open", name=label, reason=error.strerror or str(error)) from error
    if path.name.lower().endswith(".gz") and not gzipped:
        raise UserError("data.not_gzip", name=label)
    return gzipped


def _recognize_bytes(file: DataFile, head: bytes) -> DataFile:
    parquet = head.startswith(b"PAR1")
    other_format = next((what for start, what in _OTHER.items() if head.startswith(start)), None)
    if other_format:
        raise UserError("data.other_content", name=file.name, what=other_format)
    if file.named == "parquet" and not parquet:
        raise UserError("data.not_parquet", name=file.name)
    encoding = next((codec for mark, codec in _BOMS if head.startswith(mark)), "utf-8")
    if not parquet and encoding.startswith("utf-8") and b"\0" in head:
        raise UserError("data.binary", name=file.name)
    return DataFile(file.path, file.name, file.named, file.gzipped, parquet, encoding, file.size)


@contextmanager
def open_bytes(file: DataFile, limits: ImportLimits) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Open a file; yield its decompressed bytes, and the raw file below them (its `tell` gives the progress).

    Reading raises UserError where compressed bytes are broken or expand beyond `limits.expanded_bytes`.
    """
    try:
        raw = file.path.open("rb")
    except OSError as error:
        raise UserError("data.cannot_open", name=file.name, reason=error.strerror or str(error)) from error
    with raw:
        if not file.gzipped:
            yield raw, raw
            return
        with io.BufferedReader(_Expanding(raw, file.name, limits.expanded_bytes), MIB) as expanded:
            yield cast(BinaryIO, expanded), raw


@contextmanager
def open_text(file: DataFile, limits: ImportLimits, newline: str = "\n") -> Iterator[tuple[io.TextIOWrapper, BinaryIO]]:
    """Open a file's text; bytes that are not valid in its encoding become lone surrogates, by which their row is
    found."""
    with open_bytes(file, limits) as (stream, raw):
        text = io.TextIOWrapper(stream, encoding=file.encoding, errors="surrogateescape", newline=newline)
        try:
            yield text, raw
        except UnicodeDecodeError as error:
            raise UserError("data.encoding", name=file.name, encoding=file.encoding) from error
        finally:
            text.detach()


class _Expanding(io.RawIOBase):
    """Reads a gzip stream and counts the decompressed bytes."""

    def __init__(self, raw: BinaryIO, name: str, most: int) -> None:
        self._stream = gzip.GzipFile(fileobj=raw, mode="rb")
        self._name, self._most, self._seen = name, most, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            content = self._stream.read(len(buffer))
        except (EOFError, OSError, zlib.error) as error:
            raise UserError("data.gzip", name=self._name) from error
        self._seen += len(content)
        if self._seen > self._most:
            raise UserError("data.expands", name=self._name, most=self._most // MIB)
        buffer[: len(content)] = content
        return len(content)
