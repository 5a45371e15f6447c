"""From a reference to a loaded model: find the files, check them, load them, keep a few.

source = locate("HuggingFaceTB/SmolLM2-135M-Instruct", owner)
loaded = Shelf().get(source, "float32")
"""

import threading
from pathlib import Path

from core.references import Base, Folder, Hub
from core.workspace import Owner
from inference.loading import Loaded, load, load_tokenizer, mixes
from inference.shelf import Shelf
from inference.sources import AdapterFiles, Fetched, Progress, Report, Source

__all__ = [
    "AdapterFiles",
    "Fetched",
    "Loaded",
    "Progress",
    "Report",
    "Shelf",
    "Source",
    "check_adapter_base",
    "fetch",
    "fetch_adapter",
    "load",
    "load_tokenizer",
    "locate",
    "mixes",
]


def fetch(
    base: Base,
    token: str | bool,
    *,
    owner: Owner | None = None,
    progress: Report | None = None,
    stop: threading.Event | None = None,
) -> Fetched:
    """Bring a base model's files to the disk. Raises UserError ("models.stopped" when `stop` is set)."""
    raise NotImplementedError


def fetch_adapter(
    adapter: Hub | Folder, token: str | bool, *, owner: Owner | None = None, progress: Report | None = None
) -> AdapterFiles:
    """Bring an adapter's files to the disk. Raises UserError."""
    raise NotImplementedError


def locate(
    reference: str,
    owner: Owner,
    *,
    adapter: str | None = None,
    progress: Report | None = None,
    stop: threading.Event | None = None,
) -> Source:
    """From what a person typed to files that can be loaded; the owner's token is used. Raises UserError."""
    raise NotImplementedError


def check_adapter_base(adapter_folder: Path, base: Fetched) -> None:
    """Raise UserError where the adapter was made on another base than this one."""
    raise NotImplementedError
