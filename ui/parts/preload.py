"""Heavy libraries (torch, transformers) are loaded in the background once the page is up; then the machine's facts
are known."""

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.compare.machine import Machine

log = logging.getLogger("tunescope")
_ready = threading.Event()
_known: list["Machine"] = []


def warm_up() -> None:
    """Load the heavy libraries; whoever waits for the machine's facts is let go, also if that fails."""
    try:
        from core.hub import retries
        from inference.compare import machine

        retries.limit_time()
        _known.append(machine.describe_machine())
    except Exception:
        log.exception("the libraries could not be loaded")
    finally:
        _ready.set()


def machine() -> "Machine | None":
    """Wait for the machine's facts and return them; None if they cannot be known."""
    _ready.wait()
    return _known[0] if _known else None


def settled(seconds: float) -> None:
    """Wait until the libraries are loaded, `seconds` at most, so that what can wait does not delay the first page."""
    _ready.wait(seconds)
