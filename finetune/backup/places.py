"""The places of the copies: a folder, such as a mounted bucket, or a private dataset repository of the Hub.

A folder needs no locks, appending or renaming: files are created, written and closed, read, or removed.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from core import settings
from core.errors import UserError
from finetune.backup.place import BackupPlace, Content, blocks_of, size_of

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REPOSITORY = re.compile(r"hf://datasets/([\w.-]{1,96}/[\w.-]{1,96})/?")


class NoRoomHere(UserError):
    """The workspace's own disk is full; the copies are intact."""


def place_from_settings() -> BackupPlace | None:
    """Return the place that `TUNESCOPE_BACKUP` names, None where it is not set; remove its token from the environment.

    Raises UserError where it names neither a folder outside the workspace nor a repository with a token.
    """
    value, token = settings.backup(), settings.take_backup_token()
    if not value:
        return None
    if value.startswith("hf:"):
        found = _REPOSITORY.fullmatch(value)
        if found is None:
            raise UserError("keep.address", value=value[:200])
        if not token:
            raise UserError("keep.no_token", value=value)
        from finetune.backup.repository import RepositoryPlace

        return RepositoryPlace(found[1], token)
    folder, home = Path(value).expanduser(), settings.home()
    if not folder.is_absolute() or not folder.is_dir():
        raise UserError("keep.no_folder", value=value[:200])
    real, own = folder.resolve(), home.resolve()
    if real.is_relative_to(own) or own.is_relative_to(real):
        raise UserError("keep.inside", value=value[:200], home=home)
    return FolderPlace(folder)


class FolderPlace:
    """A folder that another process, or another machine, keeps safe."""

    every = 15.0

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, str(folder)

    def open(self) -> set[str]:
        with self._in_words():
            if not self.folder.is_dir():
                raise UserError("keep.no_folder", value=self.name)
            found = ((parent, name) for parent, _, names in os.walk(self.folder) for name in names)
            return {Path(parent, name).relative_to(self.folder).as_posix() for parent, name in found}

    def add(self, files: Mapping[str, Content], manifest: tuple[str, bytes], gone: set[str]) -> None:
        with self._in_words():
            for name, source in [*files.items(), manifest]:
                self._write(name, source)
        self.remove(sorted(gone))

    def remove(self, names: list[str]) -> None:
        with self._in_words():
            for name in names:
                self._path(name).unlink(missing_ok=True)

    def fetch(self, name: str, path: Path) -> None:
        with (
            self._in_words(),
            disk_in_words(path.parent),
            self._path(name).open("rb") as content,
            path.open("xb") as copy,
        ):
            shutil.copyfileobj(content, copy, 2**20)

    def _path(self, name: str) -> Path:
        return self.folder / name

    def _write(self, name: str, source: Content) -> None:
        """Write a new file, or leave none after an error. Overwrites what a killed process left under the name."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            with path.open("xb") as copy:
                for block in blocks_of(source):
                    copy.write(block)
            if path.stat().st_size != size_of(source):
                raise OSError(errno.EIO, "the file is shorter than what was written")
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise UserError("keep.no_room", place=self.name) from error
            if isinstance(error, FileNotFoundError) and self.folder.is_dir():
                raise
            raise UserError("keep.failed", place=self.name, reason=error.strerror or type(error).__name__) from error


@contextmanager
def disk_in_words(folder: Path) -> Iterator[None]:
    """Raise UserError where the disk of the workspace is full."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoRoomHere(
                "keep.no_room_here", folder=settings.home(), free=shutil.disk_usage(folder).free // 10**6
            ) from error
        raise
