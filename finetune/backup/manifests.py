"""The small file that makes a copy exist: which files a thing has, with the SHA-256 of each.

Its name holds the time and the beginning of its own SHA-256, so that a truncated manifest is recognized.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from finetune.backup.items import BackupFile, BackupItem

FOLDER = "objects"
LARGEST = 8_000_000
_NAME = re.compile(r"(?P<thing>[^/]+/[^/]+/[^/]+)/(?P<made>\d{14})-(?P<digest>[0-9a-f]{16})\.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK = 2**20


class Changed(Exception):
    """A file changed while it was copied: the next round copies it."""


@dataclass(frozen=True)
class CopiedFile:
    """One file of a copy."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """The files of a copied thing, by their names within it."""

    item: str
    files: dict[str, CopiedFile]

    def objects(self) -> set[str]:
        """Return the names of the files' contents in the backup."""
        return {object_name(self.item, file.sha256) for file in self.files.values()}

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files.values())


def object_name(item: str, sha256: str) -> str:
    return f"{item}/{FOLDER}/{sha256}"


def describe(item: BackupItem, files: list[BackupFile]) -> tuple[Manifest, dict[str, BackupFile]]:
    """Return the manifest of the files as they are now, and the file of each content, by the content's name in the
    backup.

    Raises Changed and OSError where one changes or vanishes meanwhile.
    """
    copied = {file.name: CopiedFile(digest(file), file.size) for file in files}
    manifest = Manifest(item.key, copied)
    return manifest, {object_name(item.key, copied[file.name].sha256): file for file in files}


def digest(file: BackupFile) -> str:
    """Return the SHA-256 of the bytes of a file that belong to the copy."""
    found = hashlib.sha256()
    with file.path.open("rb") as content:
        for block in blocks(content, file.size):
            found.update(block)
    return found.hexdigest()


def blocks(content: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes, a megabyte at a time. Raises Changed where there are fewer."""
    while size:
        block = content.read(min(_BLOCK, size))
        if not block:
            raise Changed
        size -= len(block)
        yield block


def write(manifest: Manifest) -> tuple[str, bytes]:
    """Return the name and the content of a new manifest."""
    files = {name: {"sha256": file.sha256, "size": file.size} for name, file in sorted(manifest.files.items())}
    content = json.dumps({"tunescope": 1, "thing": manifest.item, "files": files}, indent=1).encode()
    made = f"{time.time_ns() // 1_000_000:014d}"
    return f"{manifest.item}/{made}-{hashlib.sha256(content).hexdigest()[:16]}.json", content


def item_key(name: str) -> str | None:
    """Return the key of the item whose manifest has this name; None for other files."""
    found = _NAME.fullmatch(name)
    return found["thing"] if found else None


def read(name: str, content: bytes) -> Manifest | None:
    """Return the manifest; None where it was truncated, is damaged or has a path outside its item."""
    found = _NAME.fullmatch(name)
    if found is None or hashlib.sha256(content).hexdigest()[:16] != found["digest"]:
        return None
    try:
        value = json.loads(content)
        files = {str(path): CopiedFile(str(file["sha256"]), int(file["size"])) for path, file in value["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if value.get("thing") != found["thing"] or not all(_inside(path) for path in files):
        return None
    return Manifest(found["thing"], files) if all(_SHA256.fullmatch(file.sha256) for file in files.values()) else None


def _inside(path: str) -> bool:
    """Return whether a file's name stays inside its folder."""
    parts = PurePosixPath(path).parts
    plain = "\\" not in path and "\0" not in path and not path.startswith("/")
    return bool(parts) and plain and ".." not in path.split("/") and "/".join(parts) == path


def is_whole(path: Path, file: CopiedFile) -> bool:
    """Return whether a file has the content that the manifest names."""
    return path.stat().st_size == file.size and digest(BackupFile("", path, file.size)) == file.sha256
