"""What a job prints: complete lines, events behind their prefix, never the token."""

import os
import threading
import time
from typing import IO, Any

from finetune.launch.follow.lines import PREFIX, to_line


class EventPrinter:
    """Prints from several threads, a line in one write. `events` keeps them, for the copy in the repository."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.events: list[str] = []
        self._lock = threading.Lock()

    def tell(self, event: dict[str, Any]) -> None:
        """Print an event with the next number."""
        with self._lock:
            self.events.append(to_line(event, len(self.events) + 1).replace(self.token, "***"))
            self._write(self.events[-1])

    def fail(self, sentence: str) -> None:
        """Print the last event of a job that could not do its work."""
        self.tell({"t": round(time.time(), 3), "type": "failed", "step": 0, "error": sentence})

    def say(self, text: str) -> None:
        """Print lines for people; none of them can be taken for an event."""
        with self._lock:
            for line in text.replace("\r", "\n").splitlines():
                self._write(" " + line if line.startswith(PREFIX) else line)

    def relay(self, lines: IO[bytes]) -> None:
        """Pass on what a child process prints."""
        for line in lines:
            self.say(line.decode(errors="replace"))

    def _write(self, line: str) -> None:
        content = line.replace(self.token, "***").encode() + b"\n"
        while content:
            content = content[os.write(1, content) :]
