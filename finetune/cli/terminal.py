"""How the shell talks: results to stdout, progress to stderr."""

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.models.types import Progress


def print_json(value: object) -> None:
    """The one thing on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
    sys.stdout.flush()


_shown = {"text": ""}


def show_progress(progress: "Progress") -> None:
    """Say on stderr what takes long; on a terminal with how far it is."""
    share = f" {100 * progress.done // progress.total}%" if progress.total else ""
    if sys.stderr.isatty():
        end = "\n" if progress.total and progress.done >= progress.total else ""
        print(f"\r{progress.text}{share}\033[K", end=end, file=sys.stderr, flush=True)
    elif progress.text != _shown["text"]:
        _shown["text"] = progress.text
        print(progress.text, file=sys.stderr, flush=True)
