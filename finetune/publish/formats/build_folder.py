"""Where a kind is built: a folder that appears whole or not at all, room on the disk, progress and stop."""

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import UserError
from core.words import say
from inference.models.hub_files import megabytes
from inference.models.types import Progress, Report

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

    One at a time: a second one is refused, and what a killed one left is removed. Raises UserError where there is not
    room enough, also when that turns out only on the way.
    """
    with _alone(folder, kind):
        _sweep(folder)
        room(folder, needed, kind)
        part, old = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")
        try:
            part.mkdir()
            yield part
            if folder.exists():
                os.rename(folder, old)
            os.rename(part, folder)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _no_room(folder, needed, kind) from error
            raise
        finally:
            _sweep(folder)


def _sweep(folder: Path) -> None:
    """Remove what is half built; what was set aside comes back unless its successor stands."""
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():
        os.rename(old, folder)
    for left in (old, folder.with_name(f".{folder.name}.part")):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _alone(folder: Path, kind: str) -> Iterator[None]:
    """Hold the lock of a folder, which the system lets go of when a process dies. Raises UserError where it is held."""
    import fcntl

    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError("kinds.busy", kind=say(f"kinds.title.{kind}"), folder=folder) from None
        yield
