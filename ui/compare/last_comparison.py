"""The last comparison of each browser tab, for the views and downloads below the board. Bounded, in memory only."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from core.errors import UserError
from inference.compare.record import same_request
from inference.compare.request import CompareRequest
from inference.events import Result
from ui.web.handler import Caller

MOST, MOST_PARTS, MOST_LINKS = 64, 400_000, 256


@dataclass(frozen=True)
class Comparison:
    """A request and its result."""

    request: CompareRequest
    result: Result

    @property
    def parts(self) -> int:
        """Its number of tokens and hypotheses, which need about 1 KB of memory each."""
        return sum(len(column.tokens) + len(column.trace.branches) for column in self.result.columns)


class LastComparisons:
    """The newest comparisons by browser tab; the oldest are dropped first, the newest always fits. Thread-safe."""

    def __init__(self, most: int = MOST, most_parts: int = MOST_PARTS) -> None:
        self._most, self._most_parts = most, most_parts
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], Comparison] = OrderedDict()

    def keep(self, caller: Caller, request: CompareRequest, result: Result) -> None:
        """Remember the comparison as this browser tab's last one."""
        with self._lock:
            self._kept.pop(_key(caller), None)
            self._kept[_key(caller)] = Comparison(request, result)
            while len(self._kept) > 1 and (len(self._kept) > self._most or self._parts() > self._most_parts):
                self._kept.popitem(last=False)

    def find(self, caller: Caller) -> Comparison | None:
        """Return the last comparison of this browser tab, if it is still kept."""
        with self._lock:
            return self._kept.get(_key(caller))

    def of(self, caller: Caller) -> Comparison:
        """Return the last comparison of this browser tab. Raises UserError if it is not kept any more."""
        found = self.find(caller)
        if found is None:
            raise UserError("seeing.gone")
        return found

    def _parts(self) -> int:
        return sum(comparison.parts for comparison in self._kept.values())


class Opened:
    """The links that browser tabs were opened with, to compare their results with the link's record. Thread-safe."""

    def __init__(self, most: int = MOST_LINKS) -> None:
        self._most, self._lock = most, threading.Lock()
        self._links: OrderedDict[tuple[str, str], tuple[CompareRequest, dict[str, Any]]] = OrderedDict()

    def keep(self, caller: Caller, request: CompareRequest, made: dict[str, Any]) -> None:
        """Record the request of this browser tab's link, and the record that the link was made from."""
        with self._lock:
            self._links[_key(caller)] = request, made
            while len(self._links) > self._most:
                self._links.popitem(last=False)

    def made(self, caller: Caller, request: CompareRequest) -> dict[str, Any] | None:
        """Return the record that the link was made from, if the request is the link's."""
        with self._lock:
            found = self._links.get(_key(caller))
        return found[1] if found is not None and same_request(found[0], request) else None


def _key(caller: Caller) -> tuple[str, str]:
    return caller.owner.key, caller.session


comparisons = LastComparisons()
opened = Opened()
