"""Whose comparison runs next: visitors take turns, however many requests each of them has.

A visitor's new request goes before every waiting one that is the second, third, ... of its visitor, and behind all
others. So nobody waits for more than one request of any other visitor, and a waiting request is overtaken only
if its visitor has others that are running.
"""

import threading
from collections import Counter
from collections.abc import Callable

from core import limits
from core.errors import UserError

_AGAIN_S = 1.0


class Turn:
    """A place in the queue, from `Turns.join` until `leave`. Use it in a `with` block around the work."""

    def __init__(self, turns: "Turns", visitor: str) -> None:
        self.visitor = visitor
        self.ready = False
        self._turns = turns
        self._mine = threading.Event()

    def __enter__(self) -> "Turn":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    @property
    def mine(self) -> bool:
        """Whether its turn has come."""
        return self._mine.is_set()

    def before(self) -> int:
        """Return how many turns are running or come earlier; 0 when its turn has come."""
        return self._turns.before(self)

    def take(self, stop: threading.Event) -> bool:
        """Mark the turn as ready and wait for it. Returns False if `stop` was set first.

        Before this call, others may go first: a visitor whose model is still downloading does not hold up those who
        have theirs.
        """
        self._turns.mark_ready(self)
        while not self._mine.wait(0.05):
            if stop.is_set():
                return False
        return True

    def leave(self) -> None:
        """Free the place, or end the turn. Calling it again does no harm."""
        self._turns.leave(self)

    def begin(self) -> None:
        """Let the turn begin; called by the queue."""
        self._mine.set()


class Turns:
    """A fair queue in which `at_once` turns run at the same time. Thread-safe."""

    def __init__(self, at_once: int = 1) -> None:
        self._at_once = at_once
        self._lock = threading.Lock()
        self._running: list[Turn] = []
        self._waiting: list[Turn] = []

    def join(self, visitor: str, *, stranger: bool = False) -> Turn:
        """Return a place for the visitor. Raises UserError if the visitor, or all visitors together, have reached their
        limit.

        A stranger leaves a quarter of the places to those who are known: there can be any number of strangers.
        """
        turn = Turn(self, visitor)
        with self._lock:
            own = sum(known.visitor == visitor for known in self._all())
            self._check(own, stranger)
            self._waiting.insert(self._position(visitor, own), turn)
        return turn

    def _all(self) -> list[Turn]:
        return self._running + self._waiting

    def _check(self, own: int, stranger: bool) -> None:
        places, queue, used = limits.bound("places"), limits.bound("queue"), len(self._all())
        if places is not None and own >= places:
            raise UserError("limits.places", used=own, most=places, variable="TUNESCOPE_LIMIT_PLACES")
        if queue is not None and stranger and used >= queue - queue // 4:
            facts = {"used": used, "most": queue - queue // 4, "variable": "TUNESCOPE_LIMIT_QUEUE"}
            raise UserError("limits.queue_strangers", **facts)
        if queue is not None and used >= queue:
            raise UserError("limits.queue", used=used, most=queue, variable="TUNESCOPE_LIMIT_QUEUE")

    def _position(self, visitor: str, own: int) -> int:
        """Return the position behind the visitor's `own` other turns, before the first that is a later one of its own
        visitor."""
        seen = Counter(turn.visitor for turn in self._running)
        for position, turn in enumerate(self._waiting):
            if seen[visitor] == own and seen[turn.visitor] > own:
                return position
            seen[turn.visitor] += 1
        return len(self._waiting)

    def mark_ready(self, turn: Turn) -> None:
        """Mark a turn as ready: its visitor has all that the work needs."""
        with self._lock:
            turn.ready = True
            self._start_ready()

    def before(self, turn: Turn) -> int:
        """Return how many turns are running or come earlier than this one."""
        with self._lock:
            return len(self._running) + self._waiting.index(turn) if turn in self._waiting else 0

    def leave(self, turn: Turn) -> None:
        """Remove a turn that has ended, or whose visitor no longer waits."""
        with self._lock:
            for queue in (self._running, self._waiting):
                if turn in queue:
                    queue.remove(turn)
            self._start_ready()

    def _start_ready(self) -> None:
        """Let the first ready turns begin, as many as may run at once."""
        while len(self._running) < self._at_once:
            first = next((turn for turn in self._waiting if turn.ready), None)
            if first is None:
                return
            self._waiting.remove(first)
            self._running.append(first)
            first.begin()


def wait_for_place(join: Callable[[], Turn], stop: threading.Event) -> Turn:
    """Return a place in the queue as soon as there is one. Raises UserError if `stop` was set first."""
    while True:
        try:
            return join()
        except UserError as error:
            if not error.code.startswith("limits."):
                raise
            if stop.wait(_AGAIN_S):
                raise UserError("models.stopped") from None
