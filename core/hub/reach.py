"""Whether the Hugging Face Hub can be reached, checked once a minute, and the access scopes that a refused read
needs."""

import http.client
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from core import settings
from core.errors import UserError
from core.workspace import Owner

PROBE_SECONDS = 5.0
REMEMBERED_SECONDS = 60.0
_GATEWAY_ERRORS = (502, 503, 504)
_GATED, _PRIVATE = ("gated-repos",), ("read-repos", "write-repos", "manage-repos")
_READING = {
    "models.gated": _GATED,
    "data.hub_gated": _GATED,
    "models.no_repository": _PRIVATE,
    "data.hub_missing": _PRIVATE,
}
"""Access scopes, of which one is needed, by the key of the refusal; a private repository looks like a missing one."""
_lock = threading.Lock()
_known: dict[str, tuple[float, bool]] = {}


def endpoint() -> str:
    """Return the Hub's address (`HF_ENDPOINT`) without a trailing slash."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def reachable() -> bool:
    """Return whether the Hub answers, found out within five seconds and then remembered for a minute.

    False at once under `HF_HUB_OFFLINE`. While it is False everything loads from the disk: each request for a file
    would cost 23 seconds of retries.
    """
    if settings.hub_offline():
        return False
    with _lock:
        address = endpoint()
        checked, answer = _known.get(address, (-REMEMBERED_SECONDS, False))
        if time.monotonic() - checked >= REMEMBERED_SECONDS:
            answer = _probe(address)
            _known[address] = (time.monotonic(), answer)
        return answer


def mark_unreachable() -> None:
    """Remember that the Hub stopped answering during a call."""
    _known[endpoint()] = (time.monotonic(), False)


def forget() -> None:
    """Forget whether the Hub can be reached, so that the next call asks again."""
    _known.clear()


def _probe(address: str) -> bool:
    """Send one request in a separate thread, since a name lookup cannot be given a time limit, and return whether it
    was answered."""
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(_answers(address)), daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return bool(answers and answers[0])


def _answers(address: str) -> bool:
    try:
        request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": "tunescope"})
        with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code not in _GATEWAY_ERRORS
    except (OSError, ValueError, http.client.HTTPException):
        return False


@contextmanager
def naming_scopes(owner: Owner | None) -> Iterator[None]:
    """Make the error for a refused read name the access scope that the sign-in lacks, and how to read it anyway.

    The scopes of a person's own access token are not known, so its errors stay as they are.
    """
    try:
        yield
    except UserError as error:
        reading = _READING.get(error.code)
        if reading is None or owner is None or owner.scopes is None or owner.scopes & set(reading):
            raise
        raise UserError("models.no_scope", scope=reading[0], reason=str(error)) from error
