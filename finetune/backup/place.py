"""What a backup needs of the place of the copies, and the content that is copied there."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from finetune.backup.items import BackupFile
from finetune.backup.manifests import Changed, blocks

Content = BackupFile | bytes


class BackupPlace(Protocol):
    """What a backup needs of the place of the copies. Every method may raise UserError, whose sentence goes to the log.
    Names have slashes."""

    name: str
    every: float
    """Seconds between two rounds."""

    def open(self) -> set[str]:
        """Check that the place is usable. Returns the names of all files there."""

    def add(self, files: Mapping[str, Content], manifest: tuple[str, bytes], gone: set[str]) -> None:
        """Write the files, then the manifest, then remove the names in `gone`."""

    def remove(self, names: list[str]) -> None:
        """Remove files, in this order."""

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file from the backup to a new path."""


def content_of(source: Content) -> bytes:
    """Return the whole content; for small files only. Raises Changed where a file has become shorter."""
    content = b"".join(blocks_of(source))
    if len(content) != size_of(source):
        raise Changed
    return content


def blocks_of(source: Content) -> Iterator[bytes]:
    """Yield the content, a block at a time."""
    if isinstance(source, bytes):
        yield source
        return
    with source.path.open("rb") as content:
        yield from blocks(content, source.size)


def size_of(source: Content) -> int:
    """Return the size of the content in bytes."""
    return len(source) if isinstance(source, bytes) else source.size
