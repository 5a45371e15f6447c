"""Where a kind is built: a folder that appears whole or not at all, room on the disk, progress and stop."""

import errno
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import UserError
from core.words import say
from inference.files import megabytes
from inference.sources import Progress, Report

MARGIN = 64 * 2**20


class Work:
    """Passes progress on, in bytes, and ends the work when it was stopped."""

    def __init__(self, total: int, progress: Report | None, stop: threading.Event | None) -> None:
        self.total, self.done, self.text = max(total, 1), 0, ""
        self.progress, self.stop = progress, stop

    def say(self, text: str) -> None:
        """Tell what is being done now. Raises UserError when the work was stopped."""
        self.text = text
        self.add(0)

    def add(self, count: int) -> None:
        """Count bytes that were written. Raises UserError when the work was stopped."""
        if self.stop is not None and self.stop.is_set():
            raise UserError("kinds.stopped")
        self.done = min(self.done + count, self.total)
        if self.progress is not None:
            self.progress(Progress(self.text, self.done, self.total))


def room(folder: Path, needed: int, kind: str) -> None:
    """Raise UserError where the disk under `folder` cannot take `needed` bytes."""
    free = shutil.disk_usage(_standing(folder)).free
    if free < needed + MARGIN:
        raise _no_room(folder, needed, kind)


def _no_room(folder: Path, needed: int, kind: str) -> UserError:
    free = shutil.disk_usage(_standing(folder)).free
    facts = {"kind": say(f"kinds.title.{kind}"), "needed": megabytes(needed), "free": megabytes(free)}
    return UserError("kinds.no_room", folder=folder.parent, **facts)


def _standing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


@contextmanager
def built_folder(folder: Path, needed: int, kind: str) -> Iterator[Path]:
    """Build under a temporary name; what lay at `folder` before is replaced at the end, or stays.

    Raises UserError where there is not room enough, also when that turns out only on the way.
    """
    room(folder, needed, kind)
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:8]
    part, old = (folder.parent / f".{folder.name}.{mark}.{word}" for word in ("part", "old"))
    part.mkdir()
    try:
        yield part
        if folder.exists():
            os.rename(folder, old)
        os.rename(part, folder)
    except OSError as error:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_room(folder, needed, kind) from error
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
