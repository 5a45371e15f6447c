"""Backs up a workspace: restores what is missing, then copies what is new, in a thread of the app."""

import fcntl
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core import logs, settings
from core.changes import DELETED, KEEPER, wait_for_change
from core.errors import UserError
from core.words import say
from finetune.backup import manifests
from finetune.backup.items import BackupItem, item_of, items_in
from finetune.backup.manifests import Changed, Manifest, object_name
from finetune.backup.place import BackupPlace
from finetune.backup.places import NoRoomHere, disk_in_words

MARGIN = 64 * 2**20
_SCRATCH = ".keep-"


class WorkspaceBackup:
    """The backup of one workspace to one place. Not thread-safe; `work` is the loop of its thread."""

    def __init__(self, place: BackupPlace, home: Path) -> None:
        self.place, self.home = place, home
        self._names: set[str] = set()
        self._kept: dict[str, Manifest] = {}
        self._states: dict[str, object] = {}
        self._logged: set[str] = set()
        self._unsure = False

    def restore(self) -> int:
        """Restore every item in the backup that the workspace lacks; what the workspace has is never changed.

        Returns the number of items restored. Raises UserError where the place cannot be read; damaged copies are
        skipped.
        """
        for left in self.home.glob(f"{_SCRATCH}*"):
            shutil.rmtree(left, ignore_errors=True)
        self._names, self._kept = self.place.open(), {}
        self._remove_deleted()
        by_item: dict[str, list[str]] = {}
        for name in sorted(self._names, reverse=True):
            if (key := manifests.item_key(name)) is not None:
                by_item.setdefault(key, []).append(name)
        items = [item for key in by_item if (item := item_of(self.home, key)) is not None]
        brought = 0
        for item in sorted(items, key=lambda item: item.id, reverse=True):
            restored = self._restore_item(item, by_item[item.key])
            brought += restored
            if restored:
                logs.event("restored", thing=item.kind, id=item.id[:24], count=brought, of=len(items))
        return brought

    def copy_changed(self) -> int:
        """Copy every item that is new or changed. Returns the number of items copied. Raises UserError where the place
        is not usable."""
        copied = 0
        if self._unsure:
            self._names, self._unsure = self.place.open(), False
        self._remove_deleted()
        for item in items_in(self.home):
            try:
                copied += self._copy(item)
            except (Changed, FileNotFoundError):
                continue
        return copied

    def work(self, stop: threading.Event) -> None:
        """Restore, then copy again and again until `stop` is set. No error ends the loop."""
        with_copies = False
        lock = os.open(self._lock_path(), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not stop.is_set():
                if _take_lock(lock):
                    with_copies = self._round(with_copies)
                wait_for_change(self.place.every)
        finally:
            os.close(lock)

    def _lock_path(self) -> Path:
        self.home.mkdir(parents=True, exist_ok=True)
        return self.home / KEEPER

    def _round(self, with_copies: bool) -> bool:
        """Restore if that was not done yet, then copy; the same problem is logged once. Returns whether the backup has
        been restored."""
        try:
            if not with_copies:
                began, brought = time.monotonic(), self.restore()
                with_copies = True
                logs.event("restore", place=self.place.name, things=brought, s=round(time.monotonic() - began, 1))
            copied = self.copy_changed()
            if copied:
                logs.event("backup", things=copied)
            self._logged.clear()
        except UserError as error:
            self._log_once(str(error))
        except Exception as error:
            self._log_once(say("keep.bug", kind=type(error).__name__), *logs.where(error))
        return with_copies

    def _log_once(self, sentence: str, *where: str) -> None:
        if sentence not in self._logged:
            self._logged.add(sentence)
            logs.event("backup_problem", logging.WARNING, said=sentence, **({"error": where} if where else {}))

    def _copy(self, item: BackupItem) -> bool:
        state = item.state()
        if self._states.get(item.key) == state:
            return False
        manifest, sources = manifests.describe(item, item.files())
        before = self._kept.get(item.key)
        if before != manifest:
            self._add(item, manifest, {name: sources[name] for name in sources.keys() - _objects(before)})
        self._states[item.key] = state
        return before != manifest

    def _add(self, item: BackupItem, manifest: Manifest, new: dict) -> None:
        """Upload the new contents, then the manifest, then remove what only earlier manifests named."""
        name, content = manifests.write(manifest)
        needed = {name, *manifest.objects()}
        gone = {old for old in self._names if old.startswith(f"{item.key}/")} - needed
        self._unsure = True
        self.place.add(new, (name, content), gone)
        self._unsure = False
        self._names = (self._names - gone) | needed
        self._kept[item.key] = manifest

    def _remove_deleted(self) -> None:
        """Remove the copies of items that the user deleted; the copies of items that are merely missing stay."""
        for mark in self.home.glob(f"*/{DELETED}/*"):
            kind, _, identity = mark.name.partition(".")
            item = item_of(self.home, f"{mark.parent.parent.name}/{kind}/{identity}")
            if item is None or item.exists():
                continue
            gone = {name for name in self._names if name.startswith(f"{item.key}/")}
            self._unsure = True
            self.place.remove(sorted(gone, key=lambda name: (manifests.item_key(name) is None, name)))
            self._names, self._unsure = self._names - gone, False
            self._kept.pop(item.key, None)
            self._states.pop(item.key, None)
            mark.unlink(missing_ok=True)

    def _restore_item(self, item: BackupItem, names: list[str]) -> bool:
        """Restore the newest intact copy of an item. Returns whether the item was restored."""
        for name in names:
            try:
                manifest = self._read(name)
                if manifest is None:
                    continue
                if not (exists := item.exists()):
                    self._fetch(item, manifest)
            except FileNotFoundError:
                continue
            except NoRoomHere as error:
                self._log_once(str(error))
                return False
            self._kept[item.key] = manifest
            return not exists
        if not item.exists():
            self._log_once(say("keep.damaged", kind=item.kind, id=item.id, place=self.place.name))
        return False

    def _read(self, name: str) -> Manifest | None:
        with self._scratch() as scratch:
            self.place.fetch(name, scratch / "manifest")
            size = (scratch / "manifest").stat().st_size
            return manifests.read(name, (scratch / "manifest").read_bytes()) if size <= manifests.LARGEST else None

    def _fetch(self, item: BackupItem, manifest: Manifest) -> None:
        """Download an item and move it into place in one step. Raises FileNotFoundError where a content is missing or
        does not match its hash."""
        free = shutil.disk_usage(self.home).free
        if free < manifest.size + MARGIN:
            raise NoRoomHere("keep.no_room_here", folder=self.home, free=free // 10**6)
        with self._scratch() as scratch:
            for name, file in manifest.files.items():
                path = scratch / "thing" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                self.place.fetch(object_name(item.key, file.sha256), path)
                if not manifests.is_whole(path, file):
                    raise FileNotFoundError(name)
            item.folder.parent.mkdir(parents=True, exist_ok=True)
            os.rename(scratch / "thing", item.folder)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        self.home.mkdir(parents=True, exist_ok=True)
        with disk_in_words(self.home), tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=self.home) as scratch:
            yield Path(scratch)


def _objects(manifest: Manifest | None) -> set[str]:
    return manifest.objects() if manifest else set()


def _take_lock(lock: int) -> bool:
    """Take the lock of the workspace. Returns whether no other app backs it up."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def start(place: BackupPlace | None) -> None:
    """Back up the workspace in a thread of this process if a place is configured."""
    if place is not None:
        keeper = WorkspaceBackup(place, settings.home())
        threading.Thread(target=keeper.work, args=(threading.Event(),), name="keeper", daemon=True).start()
