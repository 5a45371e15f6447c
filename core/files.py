"""Writing so that nothing is ever half there: a temporary name first, then a rename."""

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
    """The object in a JSON file.

    Raises OSError, and ValueError for a file that holds something else, is nested too deep or larger than 64 MB:
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
    """Bytes of the plain files in a folder while somebody writes into it: a file may be gone before it is measured."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                status = os.lstat(os.path.join(parent, name))
                total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def disk_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that a disk takes no more: full, or a quota or a limit is reached.

    The libraries that write weights raise errors of their own: safetensors with the system's number, PyTorch without.
    """
    chain: BaseException | None = error
    while chain is not None:
        if getattr(chain, "errno", None) in _FULL or any(words in str(chain) for words in _FULL_IN_WORDS):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


@contextmanager
def full_disk_in_words(folder: Path) -> Iterator[None]:
    """Raise UserError where what is written in the block finds the disk of `folder` full."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if disk_full(error):
            raise disk_full_at(folder) from error
        raise


def disk_full_at(folder: Path) -> UserError:
    """The sentence for a full disk under a folder."""
    return UserError("core.disk_full", folder=folder, free=shutil.disk_usage(folder).free // 2**20)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Build a folder under a temporary name and let it appear at `path` whole, or not at all.

    When somebody else made `path` meanwhile, theirs stays and ours is dropped (for content-addressed folders).
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
