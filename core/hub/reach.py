"""Whether the Hugging Face Hub can be reached, asked once in a while, and what it has and allows."""

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
"""The scopes of which one is needed where these refusals come; what is private looks as if it were not there."""
_lock = threading.Lock()
_known: dict[str, tuple[float, bool]] = {}


def endpoint() -> str:
    """The Hub's address (`HF_ENDPOINT`), without a slash at the end."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def reachable() -> bool:
    """Whether the Hub answers, known within five seconds and then remembered for a minute.

    False at once under `HF_HUB_OFFLINE`. While it is False everything loads from what is on the disk: asking the
    Hub for a file costs 23 seconds of retries each.
    """
    if settings.hub_offline():
        return False
    with _lock:
        address = endpoint()
        asked, answer = _known.get(address, (-REMEMBERED_SECONDS, False))
        if time.monotonic() - asked >= REMEMBERED_SECONDS:
            answer = _ask(address)
            _known[address] = (time.monotonic(), answer)
        return answer


def unreachable_now() -> None:
    """Remember that the Hub stopped answering in the middle of something."""
    _known[endpoint()] = (time.monotonic(), False)


def forget() -> None:
    """Ask again at the next call."""
    _known.clear()


def _ask(address: str) -> bool:
    """One request, in a thread of its own: looking a name up cannot be given a time limit."""
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
    """Let a refusal of what may not be read name the scope that a sign-in lacks for it, and the way that works.

    Of a token of one's own no scopes are known, so nothing is said of them.
    """
    try:
        yield
    except UserError as error:
        reading = _READING.get(error.code)
        if reading is None or owner is None or owner.scopes is None or owner.scopes & set(reading):
            raise
        raise UserError("models.no_scope", scope=reading[0], reason=str(error)) from error


def explain(error: Exception, repo: str) -> UserError:
    """The sentence for an error that huggingface_hub raised about a repository."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return UserError("models.gated", value=repo, url=f"{endpoint()}/{repo.partition('@')[0]}")
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError("models.no_revision", value=repo)
    if isinstance(error, errors.RepositoryNotFoundError):
        return UserError("models.no_repository", value=repo, endpoint=endpoint())
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        if status == 401:
            return UserError("models.wrong_token", value=repo, endpoint=endpoint())
        if status == 403:
            return UserError("models.no_repository", value=repo, endpoint=endpoint())
        return UserError("models.hub_error", value=repo, endpoint=endpoint(), status=status)
    return UserError("models.hub_lost", value=repo, endpoint=endpoint())
