"""Keeps a workspace: brings back what is missing, then copies what is new, in a thread of the app."""

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
from finetune.backup.manifests import Changed, Manifest, object_name
from finetune.backup.place import BackupPlace
from finetune.backup.places import NoRoomHere, disk_in_words
from finetune.backup.things import Thing, thing_of, things_in

MARGIN = 64 * 2**20
_SCRATCH = ".keep-"


class Keeper:
    """One workspace and the place of its copies. Not thread-safe; `work` is the loop of its thread."""

    def __init__(self, place: BackupPlace, home: Path) -> None:
        self.place, self.home = place, home
        self._names: set[str] = set()
        self._kept: dict[str, Manifest] = {}
        self._states: dict[str, object] = {}
        self._logged: set[str] = set()
        self._unsure = False

    def restore(self) -> int:
        """Bring back every copied thing that the workspace lacks; what is there is never touched.

        Returns how many came back. Raises UserError where the place cannot be read; what is damaged is left out.
        """
        for left in self.home.glob(f"{_SCRATCH}*"):
            shutil.rmtree(left, ignore_errors=True)
        self._names, self._kept = self.place.open(), {}
        self._forget()
        by_thing: dict[str, list[str]] = {}
        for name in sorted(self._names, reverse=True):
            if (key := manifests.thing_key(name)) is not None:
                by_thing.setdefault(key, []).append(name)
        things = [thing for key in by_thing if (thing := thing_of(self.home, key)) is not None]
        brought = 0
        for thing in sorted(things, key=lambda thing: thing.id, reverse=True):
            came_back = self._bring(thing, by_thing[thing.key])
            brought += came_back
            if came_back:
                logs.event("restored", thing=thing.kind, id=thing.id[:24], count=brought, of=len(things))
        return brought

    def look(self) -> int:
        """Copy every thing that is new or changed. Returns how many. Raises UserError where the place is no good."""
        copied = 0
        if self._unsure:
            self._names, self._unsure = self.place.open(), False
        self._forget()
        for thing in things_in(self.home):
            try:
                copied += self._copy(thing)
            except (Changed, FileNotFoundError):
                continue
        return copied

    def work(self, stop: threading.Event) -> None:
        """Restore, then look again and again until told to stop. Nothing that goes wrong ends it."""
        with_copies = False
        lock = os.open(self._lock_path(), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not stop.is_set():
                if _alone(lock):
                    with_copies = self._round(with_copies)
                wait_for_change(self.place.every)
        finally:
            os.close(lock)

    def _lock_path(self) -> Path:
        self.home.mkdir(parents=True, exist_ok=True)
        return self.home / KEEPER

    def _round(self, with_copies: bool) -> bool:
        """One round; a problem is told once. Returns whether the copies have been brought back."""
        try:
            if not with_copies:
                began, brought = time.monotonic(), self.restore()
                with_copies = True
                logs.event("restore", place=self.place.name, things=brought, s=round(time.monotonic() - began, 1))
            copied = self.look()
            if copied:
                logs.event("backup", things=copied)
            self._logged.clear()
        except UserError as error:
            self._tell(str(error))
        except Exception as error:
            self._tell(say("keep.bug", kind=type(error).__name__), *logs.where(error))
        return with_copies

    def _tell(self, sentence: str, *where: str) -> None:
        if sentence not in self._logged:
            self._logged.add(sentence)
            logs.event("backup_problem", logging.WARNING, said=sentence, **({"error": where} if where else {}))

    def _copy(self, thing: Thing) -> bool:
        state = thing.state()
        if self._states.get(thing.key) == state:
            return False
        manifest, sources = manifests.describe(thing, thing.files())
        before = self._kept.get(thing.key)
        if before != manifest:
            self._add(thing, manifest, {name: sources[name] for name in sources.keys() - _objects(before)})
        self._states[thing.key] = state
        return before != manifest

    def _add(self, thing: Thing, manifest: Manifest, new: dict) -> None:
        """Put the new contents there, then the manifest; what only earlier manifests named goes at the end."""
        name, content = manifests.write(manifest)
        needed = {name, *manifest.objects()}
        gone = {old for old in self._names if old.startswith(f"{thing.key}/")} - needed
        self._unsure = True
        self.place.add(new, (name, content), gone)
        self._unsure = False
        self._names = (self._names - gone) | needed
        self._kept[thing.key] = manifest

    def _forget(self) -> None:
        """Remove the copies of what was deleted for good; what only vanished keeps them."""
        for mark in self.home.glob(f"*/{DELETED}/*"):
            kind, _, identity = mark.name.partition(".")
            thing = thing_of(self.home, f"{mark.parent.parent.name}/{kind}/{identity}")
            if thing is None or thing.there():
                continue
            gone = {name for name in self._names if name.startswith(f"{thing.key}/")}
            self._unsure = True
            self.place.remove(sorted(gone, key=lambda name: (manifests.thing_key(name) is None, name)))
            self._names, self._unsure = self._names - gone, False
            self._kept.pop(thing.key, None)
            self._states.pop(thing.key, None)
            mark.unlink(missing_ok=True)

    def _bring(self, thing: Thing, names: list[str]) -> bool:
        """Take the newest copy that is whole. Returns whether the thing came back."""
        for name in names:
            try:
                manifest = self._read(name)
                if manifest is None:
                    continue
                if not (there := thing.there()):
                    self._fetch(thing, manifest)
            except FileNotFoundError:
                continue
            except NoRoomHere as error:
                self._tell(str(error))
                return False
            self._kept[thing.key] = manifest
            return not there
        if not thing.there():
            self._tell(say("keep.damaged", kind=thing.kind, id=thing.id, place=self.place.name))
        return False

    def _read(self, name: str) -> Manifest | None:
        with self._scratch() as scratch:
            self.place.fetch(name, scratch / "manifest")
            size = (scratch / "manifest").stat().st_size
            return manifests.read(name, (scratch / "manifest").read_bytes()) if size <= manifests.LARGEST else None

    def _fetch(self, thing: Thing, manifest: Manifest) -> None:
        """Let the thing appear whole. Raises FileNotFoundError where a content is missing or another one."""
        free = shutil.disk_usage(self.home).free
        if free < manifest.size + MARGIN:
            raise NoRoomHere("keep.no_room_here", folder=self.home, free=free // 10**6)
        with self._scratch() as scratch:
            for name, file in manifest.files.items():
                path = scratch / "thing" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                self.place.fetch(object_name(thing.key, file.sha256), path)
                if not manifests.is_whole(path, file):
                    raise FileNotFoundError(name)
            thing.folder.parent.mkdir(parents=True, exist_ok=True)
            os.rename(scratch / "thing", thing.folder)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        self.home.mkdir(parents=True, exist_ok=True)
        with disk_in_words(self.home), tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=self.home) as scratch:
            yield Path(scratch)


def _objects(manifest: Manifest | None) -> set[str]:
    return manifest.objects() if manifest else set()


def _alone(lock: int) -> bool:
    """Whether no other app keeps this workspace."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def start(place: BackupPlace | None) -> None:
    """Keep the workspace in a thread of this process, where there is a place."""
    if place is not None:
        keeper = Keeper(place, settings.home())
        threading.Thread(target=keeper.work, args=(threading.Event(),), name="keeper", daemon=True).start()
