"""The lines in which a job reports: numbered events behind a prefix, among whatever else it prints."""

import json
from typing import Any

PREFIX = "TUNESCOPE_EVENT "
ENDINGS = ("done", "stopped", "failed")
ENVIRONMENT, UPLOADED = "environment", "uploaded"
LONGEST_EVENT = 2**20
_STEPPED = ("started", "train", "eval", "sample", "checkpoint", UPLOADED, *ENDINGS)
_NEEDED = {"started": ("steps",), "train": ("loss", "tokens_per_s"), "eval": ("eval_loss",)}
"""The fields that readers of the event file rely on, by event type."""
_LARGEST = 10**12


def to_line(event: dict[str, Any], number: int) -> str:
    """Return an event as a line, with its number `n`, counted from 1 in each job."""
    return PREFIX + json.dumps({**event, "n": number}, ensure_ascii=False, allow_nan=False)


def from_line(line: str) -> dict[str, Any] | None:
    """Parse the event in a line; None for any other line, a truncated one, or an event that no run of ours writes: a
    job can print anything, and what is stored stays."""
    if not line.startswith(PREFIX) or len(line) > LONGEST_EVENT:
        return None
    try:
        event = json.loads(line[len(PREFIX) :], parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and _is_valid(event) else None


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _is_valid(event: dict[str, Any]) -> bool:
    """Return whether an event has what every reader takes for granted, and no field that the file's writer adds."""
    kind = event.get("type")
    counts = [event.get("n"), *([event.get("step")] if kind in _STEPPED else [])]
    numbers = [event.get("t", 0), *(event.get(name, "") for name in _NEEDED.get(str(kind), ()))]
    return (
        isinstance(kind, str)
        and not {"job", "self"} & event.keys()
        and all(type(count) is int and 0 <= count < _LARGEST for count in counts)
        and all(number is None or type(number) in (int, float) for number in numbers)
    )
