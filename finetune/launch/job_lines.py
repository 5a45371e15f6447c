"""How a job tells what happens: numbered events behind a prefix among the lines that it prints."""

import json
from typing import Any

PREFIX = "TUNESCOPE_EVENT "
ENDINGS = ("done", "stopped", "failed")
ENVIRONMENT, UPLOADED = "environment", "uploaded"


def to_line(event: dict[str, Any], number: int) -> str:
    """An event as a line, with its running number `n`, counted from 1 in each job."""
    return PREFIX + json.dumps({**event, "n": number}, ensure_ascii=False, allow_nan=False)


def from_line(line: str) -> dict[str, Any] | None:
    """The event in a line; None for any other line, and for one that is cut off."""
    if not line.startswith(PREFIX):
        return None
    try:
        event = json.loads(line[len(PREFIX) :])
    except ValueError:
        return None
    whole = isinstance(event, dict) and isinstance(event.get("type"), str) and isinstance(event.get("n"), int)
    return event if whole else None
