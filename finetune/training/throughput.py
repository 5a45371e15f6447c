"""The throughput of a run: time spent on training steps alone, with rates and estimates based on it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Time spent on training steps alone, without evaluations and checkpoints; rates since the last lap."""

    def __init__(self) -> None:
        self.tokens = 0
        self.all_tokens = 0
        self.seconds = 0.0
        self.first_step = 0
        self._since = time.perf_counter()
        self._left_out = 0.0

    def start(self, step: int) -> None:
        self.first_step = step
        self._since, self._left_out = time.perf_counter(), 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time of the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._left_out += time.perf_counter() - began

    def lap(self, step: int, steps: int) -> tuple[float, float]:
        """Return the tokens per second since the last lap, and the estimated seconds of the remaining steps at the mean
        pace."""
        now = time.perf_counter()
        spent = max(now - self._since - self._left_out, 1e-9)
        rate = self.tokens / spent
        self.seconds += spent
        self.all_tokens += self.tokens
        self.tokens, self._since, self._left_out = 0, now, 0.0
        pace = self.seconds / max(step - self.first_step, 1)
        return round(rate, 2), round(pace * (steps - step), 1)

    @property
    def rate(self) -> float:
        """Tokens per second over the whole attempt."""
        return round(self.all_tokens / self.seconds, 2) if self.seconds else 0.0
