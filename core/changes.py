"""Changes in a workspace that its backup must see: signals that something is new, and marks for what was deleted for
good."""

import threading
from pathlib import Path

KEEPER = ".keeper"
"""A file in a workspace that is backed up: the lock of the app that does so."""
DELETED = ".deleted"
_changed = threading.Event()


def signal_change() -> None:
    """Signal that there is something new to copy, so that the backup keeper of this process, if there is one, looks
    sooner."""
    _changed.set()


def wait_for_change(seconds: float) -> None:
    """Wait for `seconds`, or less if something new is signaled."""
    _changed.wait(seconds)
    _changed.clear()


def mark_deleted(folder: Path) -> None:
    """Mark a dataset's or a run's folder that is about to be deleted for good, so that its copies are deleted, too."""
    kind, owner = folder.parent, folder.parent.parent
    if (owner.parent / KEEPER).exists():
        (owner / DELETED).mkdir(exist_ok=True)
        (owner / DELETED / f"{kind.name}.{folder.name}").touch()
        signal_change()
