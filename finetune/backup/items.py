"""The items of a workspace that are backed up: whole datasets, and runs with their newest complete checkpoint."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.workspace import OWNER_KEY, RUN_ID
from finetune.data.store import REPORT, ROWS
from finetune.runs.run import Run

DATASETS, RUNS = "datasets", "runs"
_GROWING = ("events.jsonl", "log.txt")
_HERE_ALONE = ("handle.json",)
"""The process that runs a run is valid on its own machine only."""
_LINE_END = 64 * 1024


@dataclass(frozen=True)
class BackupFile:
    """One file of an item: its name within the item, and the number of its bytes that belong to the copy.

    `grows`: a process may append to it meanwhile; the copy ends at the end of a line.
    """

    name: str
    path: Path
    size: int
    grows: bool = False


@dataclass(frozen=True)
class BackupItem:
    """A dataset or a run of an owner (by key), in the workspace `home`. `kind` is "datasets" or "runs"."""

    home: Path
    owner: str
    kind: str
    id: str

    @property
    def key(self) -> str:
        return f"{self.owner}/{self.kind}/{self.id}"

    @property
    def folder(self) -> Path:
        return self.home / self.owner / self.kind / self.id

    def exists(self) -> bool:
        """Return whether the item is in the workspace."""
        marks = (ROWS, REPORT) if self.kind == DATASETS else ("config.yaml",)
        return all((self.folder / mark).is_file() for mark in marks)

    def state(self) -> object:
        """Return a value that changes when there is something new to copy. For an active run only a new checkpoint
        counts."""
        if self.kind == RUNS and (run := Run(self.folder)).alive():
            return (_newest_checkpoint(run), run.model.is_dir())
        return tuple((file.name, file.size, file.path.stat().st_mtime_ns) for file in self.files())

    def files(self) -> list[BackupFile]:
        """Return the files to copy. A checkpoint is listed before the events and `model/` after them, so that the
        copied events of an active run list every copied checkpoint and no result that is missing."""
        if self.kind == DATASETS:
            return list(_plain_files(self.folder))
        run = Run(self.folder)
        newest = _newest_checkpoint(run)
        saved = list(_below(run.checkpoints / newest, f"checkpoints/{newest}/")) if newest else []
        top_level = list(_plain_files(self.folder))
        return [*saved, *top_level, *_below(run.model, "model/")]


def items_in(home: Path) -> Iterator[BackupItem]:
    """Yield all items that may be copied, datasets first: runs need them."""
    for kind in (DATASETS, RUNS):
        for folder in sorted(home.glob(f"*/{kind}/*")):
            item = item_of(home, f"{folder.parent.parent.name}/{kind}/{folder.name}")
            if item is not None and item.exists():
                yield item


def item_of(home: Path, key: str) -> BackupItem | None:
    """Return the item with a key such as `local/runs/r20261123-181502-3fa9`; None where the key is not valid."""
    owner, kind, identity = [*key.split("/"), "", ""][:3]
    shaped = RUN_ID.fullmatch(identity) if kind == RUNS else len(identity) == 64 and identity.isalnum()
    if kind not in (DATASETS, RUNS) or key.count("/") != 2 or not shaped or not OWNER_KEY.fullmatch(owner):
        return None
    return BackupItem(home, owner, kind, identity)


def _newest_checkpoint(run: Run) -> str | None:
    """Return the name of the newest complete checkpoint."""
    found = [path.parent.name for path in run.checkpoints.glob("checkpoint-*/trainer_state.json")]
    return max(found, key=lambda name: int(name.rpartition("-")[2]), default=None)


def _plain_files(folder: Path) -> Iterator[BackupFile]:
    """Yield the files directly in a folder, without those that begin with a dot (incomplete) and `lock` files (of this
    machine)."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        mine = entry.name.startswith(".") or entry.name in _HERE_ALONE or entry.name.endswith("lock")
        if entry.is_file(follow_symlinks=False) and not mine:
            yield _file(Path(entry.path), entry.name, entry.name in _GROWING)


def _below(folder: Path, before: str) -> Iterator[BackupFile]:
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(parent, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield _file(path, before + path.relative_to(folder).as_posix())


def _file(path: Path, name: str, grows: bool = False) -> BackupFile:
    size = path.stat().st_size
    return BackupFile(name, path, _whole_lines(path, size) if grows else size, grows)


def _whole_lines(path: Path, size: int) -> int:
    """Return the number of bytes up to the end of the last line."""
    with path.open("rb") as file:
        while size > 0:
            begin = max(0, size - _LINE_END)
            file.seek(begin)
            found = file.read(size - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            size = begin
    return 0
