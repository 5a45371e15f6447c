"""What changed in a workspace, for its backup to see: what is new, and what somebody deleted for good."""

import threading
from pathlib import Path

KEEPER = ".keeper"
"""Lies in a workspace that is kept: the lock of the app that keeps it."""
DELETED = ".deleted"
_news = threading.Event()


def hint() -> None:
    """There is something new to copy: the keeper of this process, where there is one, looks sooner."""
    _news.set()


def wait_for_news(seconds: float) -> None:
    """Come back after so many seconds, or sooner where there is something new."""
    _news.wait(seconds)
    _news.clear()


def forget(folder: Path) -> None:
    """Mark a dataset's or a run's folder that is about to be deleted for good, so that its copies go as well."""
    kind, owner = folder.parent, folder.parent.parent
    if (owner.parent / KEEPER).exists():
        (owner / DELETED).mkdir(exist_ok=True)
        (owner / DELETED / f"{kind.name}.{folder.name}").touch()
        hint()
