"""Output of the shell: results to stdout, progress to stderr."""

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.models.types import Progress


def print_json(value: object) -> None:
    """Print a value as JSON: the only output on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
    sys.stdout.flush()


_shown = {"text": ""}


def show_progress(progress: "Progress") -> None:
    """Print progress on stderr; on a terminal with the percentage."""
    share = f" {100 * progress.done // progress.total}%" if progress.total else ""
    if sys.stderr.isatty():
        end = "\n" if progress.total and progress.done >= progress.total else ""
        print(f"\r{progress.text}{share}\033[K", end=end, file=sys.stderr, flush=True)
    elif progress.text != _shown["text"]:
        _shown["text"] = progress.text
        print(progress.text, file=sys.stderr, flush=True)
