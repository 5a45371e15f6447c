"""Time limits and retries for calls to the Hub: never without a limit, and repeated where that does no harm."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from core.errors import UserError
from core.hub.errors import PASSING

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds: for a connection, for any answer of the Hub (`look`: to a mere query), and between
    tries; and the number of tries.

    If the Hub asks for a longer wait than `longest_wait`, the call fails instead and the error says how long it would
    take. `wait_scale` makes all waits between tries longer or shorter.
    """

    connect: float = 15.0
    answer: float = 120.0
    look: float = 15.0
    tries: int = 4
    first_wait: float = 1.0
    longest_wait: float = 20.0
    wait_scale: float = 1.0


patience = Patience()
_lock = threading.Lock()
_replaced = False


def limit_time() -> None:
    """Give the client that all calls share a time limit, and a limit on the waits that the Hub asks for.

    Without it the client waits forever for the answer to a commit, and as long as `Retry-After` says, up to five times.
    The first call in a process replaces the shared client, so it must come before any download.
    """
    from huggingface_hub import get_session, set_client_factory

    global _replaced
    with _lock:
        if not _replaced:
            set_client_factory(partial(_client, get_session()))
            _replaced = True
        _limit(get_session())


def _client(usual: Any) -> Any:
    """Return a client like the usual one, with the limits: the Hub's client makes a new one after a failed
    connection."""
    import httpx2

    how = {"follow_redirects": usual.follow_redirects, "timeout": usual.timeout}
    return _limit(httpx2.Client(event_hooks=usual.event_hooks, **how))


def _limit(client: Any) -> Any:
    hooks = client.event_hooks
    wanted = {"request": _with_limits, "response": _not_too_long}
    if any(hook not in hooks.get(name, []) for name, hook in wanted.items()):
        client.event_hooks = {
            name: [*(known for known in hooks.get(name, []) if known is not hook), hook]
            for name, hook in wanted.items()
        }
    return client


def _with_limits(request: Any) -> None:
    """Set the time limits that a request lacks: some calls of the client explicitly set none."""
    own = request.extensions.get("timeout") or {}
    limits = {"connect": patience.connect, "pool": patience.answer, "read": patience.answer, "write": patience.answer}
    request.extensions["timeout"] = {
        name: limit if own.get(name) is None else own[name] for name, limit in limits.items()
    }


def _not_too_long(response: Any) -> None:
    """Raise the error of a rate-limited response if the Hub asks for a longer wait than `patience.longest_wait`."""
    from huggingface_hub.utils import hf_raise_for_status

    if response.status_code == 429 and (retry_after(response) or 0) > patience.longest_wait:
        response.read()
        hf_raise_for_status(response)


def retry_after(response: Any) -> float | None:
    """Return how many seconds the Hub asks to wait (`Retry-After`)."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None


def again(work: Callable[[], T], stop: threading.Event | None = None) -> T:
    """Call `work`, which must be safe to repeat, until it succeeds, up to `patience.tries` times.

    Raises what the last try raised; UserError if it was stopped while waiting.
    """
    wait = patience.first_wait
    for left in range(patience.tries - 1, -1, -1):
        try:
            return work()
        except Exception as error:
            pause = _pause(error, wait)
            if left == 0 or pause is None:
                raise
        _sleep(pause, stop)
        wait = min(2 * wait, patience.longest_wait)
    raise AssertionError("the last try answers or raises")


def _pause(error: Exception, wait: float) -> float | None:
    """Return how long to wait before the next try; None if there should be none."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        if error.response.status_code not in PASSING:
            return None
        seconds = retry_after(error.response)
        return wait if seconds is None else seconds if seconds <= patience.longest_wait else None
    return wait if isinstance(error, httpx2.TransportError) else None


def _sleep(seconds: float, stop: threading.Event | None) -> None:
    if stop is None:
        time.sleep(seconds * patience.wait_scale)
    elif stop.wait(seconds * patience.wait_scale):
        raise UserError("publish.stopped")
