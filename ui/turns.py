"""One comparison computes at a time: who comes later waits in line and is told how many are before them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Line:
    """Places in the order of arrival; the first has its turn until it leaves. Thread-safe."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._moved = threading.Condition()

    @contextmanager
    def place(self) -> Iterator["Place"]:
        """A place at the end of the line, given up when the block ends, however it ends."""
        mine = Place(self)
        with self._moved:
            self._places.append(mine)
        try:
            yield mine
        finally:
            with self._moved:
                self._places.remove(mine)
                self._moved.notify_all()

    def before(self, place: "Place") -> int:
        """How many come before a place."""
        with self._moved:
            return self._places.index(place)

    def wait(self, place: "Place", seconds: float | None) -> bool:
        """Wait a while, or as long as it takes; whether the place has its turn."""
        with self._moved:
            return self._moved.wait_for(lambda: self._places[0] is place, seconds)


class Place:
    """A place in a line."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @property
    def before(self) -> int:
        return self._line.before(self)

    def reached(self, seconds: float | None) -> bool:
        """Wait a while, or as long as it takes; whether the turn has come."""
        return self._line.wait(self, seconds)
