"""Owners of sessions, events, uploads and files: an id belongs to the first visitor who uses it, and to nobody else."""

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from ui.web.visitor import STRANGER

KEPT = 50_000
_LONGEST_PATH = 4096
_Ids = OrderedDict[tuple[str, str], frozenset[str]]


class Bindings:
    """The owner of each id, of the newest ids only. Thread-safe.

    Ids of strangers are stored apart: however many they make up, no signed-in visitor loses one.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._known: _Ids = OrderedDict()
        self._strange: _Ids = OrderedDict()

    def claim(self, kind: str, name: str, visitor: str) -> bool:
        """Give the visitor an id that nobody has. Return whether the id is theirs."""
        with self._lock:
            ids = self._ids((kind, name), visitor)
            has = ids.setdefault((kind, name), frozenset([visitor]))
            self._tidy(ids, (kind, name))
            return visitor in has

    def has(self, kind: str, name: str, visitor: str) -> bool:
        """Return whether the id is already this visitor's."""
        with self._lock:
            return visitor in self._ids((kind, name), visitor).get((kind, name), frozenset())

    def free(self, kind: str, name: str, visitor: str) -> bool:
        """Return whether the id is this visitor's or nobody's."""
        with self._lock:
            return visitor in self._ids((kind, name), visitor).get((kind, name), (visitor,))

    def give(self, kind: str, name: str, visitor: str) -> None:
        """Give the visitor the id, which others may have, too: two visitors who upload the same file share its path."""
        with self._lock:
            ids = self._ids((kind, name), visitor)
            ids[kind, name] = ids.get((kind, name), frozenset()) | {visitor}
            self._tidy(ids, (kind, name))

    def _ids(self, key: tuple[str, str], visitor: str) -> _Ids:
        """Return the ids among which this one is, or would be kept."""
        if key in self._known or (key not in self._strange and not visitor.startswith(STRANGER)):
            return self._known
        return self._strange

    def _tidy(self, ids: _Ids, key: tuple[str, str]) -> None:
        ids.move_to_end(key)
        while len(ids) > self._kept:
            ids.popitem(last=False)


class Uploads:
    """The owners of uploaded files. A file without a known sender belongs to nobody."""

    def __init__(self, folder: Path, bindings: Bindings) -> None:
        self._folders = {os.path.abspath(folder), os.path.realpath(folder)}
        self._bindings = bindings
        self._public: set[str] = set()
        self._sent: dict[str, set[str]] = {}

    def publish(self, value: Any) -> None:
        """Open files to everybody that the page itself shows, such as icons: every path in its config."""
        self._public.update(self._paths(value))

    def give(self, path: str, visitor: str) -> None:
        """Record that the visitor uploaded this file."""
        for name in self._inside(path):
            self._bindings.give("file", name, visitor)
        self._sent.setdefault(visitor, set()).add(path)

    def size(self, visitor: str) -> int:
        """Return the total bytes of the files that the visitor uploaded and that still exist."""
        there = {path: os.path.getsize(path) for path in self._sent.get(visitor, set()) if os.path.exists(path)}
        self._sent[visitor] = set(there)
        return sum(there.values())

    def open_to(self, value: Any, visitor: str) -> bool:
        """Return whether the visitor may use every uploaded file that a value names anywhere in it."""
        return all(name in self._public or self._bindings.has("file", name, visitor) for name in self._paths(value))

    def _paths(self, value: Any) -> list[str]:
        """Return the paths into the upload folder that a value contains."""
        found, left = [], [value]
        while left:
            here = left.pop()
            if isinstance(here, dict):
                left += [*here.keys(), *here.values()]
            elif isinstance(here, list | tuple):
                left += here
            elif isinstance(here, str) and here and "\0" not in here:
                found += self._inside(here)
        return found

    def _inside(self, path: str) -> list[str]:
        """Return the path as the system resolves it if it is in the upload folder, else nothing.

        A path may be longer than the system allows and yet name a file once it is normalized, as Gradio does.
        """
        path = os.path.normpath(path) if len(path) > _LONGEST_PATH and os.sep in path else path
        if len(path) > _LONGEST_PATH:
            return []
        names = {os.path.abspath(path), os.path.realpath(path)} if os.sep in path else set()
        return [name for name in names if any(name.startswith(folder + os.sep) for folder in self._folders)]
