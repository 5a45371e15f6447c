"""The journal of a run's process: events in the event file and lines for people in the log."""

import sys
import time
from typing import Any

from core.words import say
from finetune.runs.events import Event
from finetune.runs.run import Run


class Journal:
    """Writes events and their log lines. `foreground`: the lines go to the terminal as well as into the log."""

    def __init__(self, run: Run, foreground: bool = False) -> None:
        self.run = run
        self.foreground = foreground

    def write(self, type: str, **facts: Any) -> Event:
        """Write one event, and its log line where the event has one."""
        event = self.run.log.write(type, **facts)
        line = _line(event, self.run)
        if line:
            self.say(line)
        return event

    def say(self, text: str) -> None:
        """Write a line to the log, and to the terminal in the foreground."""
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
        if self.foreground:
            with open(self.run.log_path, "a", encoding="utf-8") as log:
                log.write(f"{time.strftime('%H:%M:%S')} {text}\n")


class Silence(Journal):
    """The journal of a process that does not lead: it writes nothing, since the leading process writes the same
    events."""

    def write(self, type: str, **facts: Any) -> Event:
        return {"type": type, **facts}

    def say(self, text: str) -> None:
        """Do nothing."""


def _line(event: Event, run: Run) -> str:
    kind = event["type"]
    if kind == "progress":
        return say(f"run.phase.{event['phase']}", **event)
    facts = {
        **event,
        "number": event.get("stage", 0) + 1,
        "id": run.id,
        "folder": run.model,
        "eta": _duration(event.get("eta_s", 0)),
    }
    if kind == "sample":
        facts["text"] = " ".join(event["text"].split())[:200]
    return say(f"run.line.{kind}", **facts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
