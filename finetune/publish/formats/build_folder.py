"""The folder in which a kind is built: it appears complete or not at all; disk space, progress and stop."""

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


class BuildProgress:
    """Reports the progress of a build, in bytes, and ends it when it was stopped."""

    def __init__(self, total: int, progress: Report | None, stop: threading.Event | None) -> None:
        self.total, self.done, self.text = max(total, 1), 0, ""
        self.progress, self.stop = progress, stop

    def step(self, text: str) -> None:
        """Report the current step. Raises UserError when the build was stopped."""
        self.text = text
        self.add(0)

    def add(self, count: int) -> None:
        """Count bytes that were written. Raises UserError when the build was stopped."""
        if self.stop is not None and self.stop.is_set():
            raise UserError("kinds.stopped")
        self.done = min(self.done + count, self.total)
        if self.progress is not None:
            self.progress(Progress(self.text, self.done, self.total))


def room(folder: Path, needed: int, kind: str) -> None:
    """Raise UserError where the disk of `folder` has no space for `needed` bytes."""
    free = shutil.disk_usage(_existing_parent(folder)).free
    if free < needed + MARGIN:
        raise _no_room(folder, needed, kind)


def _no_room(folder: Path, needed: int, kind: str) -> UserError:
    free = shutil.disk_usage(_existing_parent(folder)).free
    facts = {"kind": say(f"kinds.title.{kind}"), "needed": megabytes(needed), "free": megabytes(free)}
    return UserError("kinds.no_room", folder=folder.parent, **facts)


def _existing_parent(folder: Path) -> Path:
    """Return the folder itself, or the nearest existing one above it."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


@contextmanager
def built_folder(folder: Path, needed: int, kind: str) -> Iterator[Path]:
    """Build under a temporary name; at the end it replaces what was at `folder`, on failure that stays.

    One build at a time: a second one is refused, and leftovers of a killed one are removed. Raises UserError where the
    disk space is too small, also when that turns out during the build.
    """
    with _locked(folder, kind):
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
    """Remove unfinished builds; a folder that was set aside comes back unless its successor is in place."""
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():
        os.rename(old, folder)
    for left in (old, folder.with_name(f".{folder.name}.part")):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _locked(folder: Path, kind: str) -> Iterator[None]:
    """Hold the lock of a folder, which the system releases when a process dies. Raises UserError where it is held."""
    import fcntl

    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError("kinds.busy", kind=say(f"kinds.title.{kind}"), folder=folder) from None
        yield
