"""Atomic writes: a temporary name first, then a rename, so that a file or folder is complete or does not exist."""

import errno
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_IN_WORDS = ("(os error 28)", "(os error 122)", "(os error 27)", "inline_container.cc")
_LARGEST_JSON = 64_000_000


def write_file(path: Path, content: str | bytes) -> None:
    """Replace `path` in one step; readers see the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Replace `path` with `value` as readable JSON."""
    write_file(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> dict:
    """Return the object in a JSON file.

    Raises OSError, and ValueError for a file that holds something else, is nested too deep or is larger than 64 MB:
    some files come from strangers.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST_JSON + 1)
    if len(content) > _LARGEST_JSON:
        raise ValueError(f"larger than {_LARGEST_JSON:,} bytes")
    try:
        value = json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def folder_size(folder: Path) -> int:
    """Return the bytes of the regular files in a folder that may be written to meanwhile: a file that disappears is not
    counted."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                status = os.lstat(os.path.join(parent, name))
                total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def disk_full(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, says that a disk takes no more: it is full, or a quota or size
    limit is reached.

    The libraries that write weights raise errors of their own: safetensors with the system's error number, PyTorch
    without.
    """
    chain: BaseException | None = error
    while chain is not None:
        if getattr(chain, "errno", None) in _FULL or any(words in str(chain) for words in _FULL_IN_WORDS):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


@contextmanager
def full_disk_in_words(folder: Path) -> Iterator[None]:
    """Raise UserError if the code in the block finds the disk of `folder` full."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if disk_full(error):
            raise disk_full_at(folder) from error
        raise


def disk_full_at(folder: Path) -> UserError:
    """Return the error for a full disk under a folder."""
    return UserError("core.disk_full", folder=folder, free=shutil.disk_usage(folder).free // 2**20)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Build a folder under a temporary name and move it to `path` when it is complete.

    If another process made `path` in the meantime, that folder stays and ours is dropped (for content-addressed
    folders).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.part"
    part.mkdir()
    try:
        yield part
        if path.exists():
            return
        try:
            os.rename(part, path)
        except OSError:
            if not path.exists():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
