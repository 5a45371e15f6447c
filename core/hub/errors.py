"""Errors of calls to the Hub: one classifier, and a table in each area from its result to a sentence.

`classify` says what an error of the Hub's client is; an area has a table from that to a key of its sentences, which
`key_of` looks up. `in_words` does both for calls on a repository.
"""

import errno
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from core import settings
from core.errors import UserError
from core.hub import reach
from core.workspace import Owner

PASSING = (408, 429, 500, 502, 503, 504)
"""The statuses of a Hub that is busy or broken: the same call may succeed a moment later."""
_BY_STATUS = {
    401: "wrong_token",
    402: "no_credit",
    403: "no_right",
    404: "not_there",
    408: "broken",
    409: "conflict",
    412: "conflict",
    413: "too_large",
    429: "busy",
}
_SENTENCES = {
    "wrong_token": "publish.wrong_token",
    "no_credit": "publish.quota",
    "no_right": "publish.no_right",
    "not_there": "publish.no_repository",
    "conflict": "publish.changed",
    "too_large": "publish.too_large",
    "busy": "publish.slow_down",
    "broken": "publish.hub_broken",
    "refused": "publish.refused",
    "storage": "publish.refused",
    "card": "publish.card_refused",
    "offline": "publish.offline",
    "strange": "publish.strange",
}
_INCOMPLETE = (KeyError, TypeError, AttributeError)
"""What the client raises for an answer that lacks what it should hold."""


@dataclass(frozen=True)
class Refusal:
    """What an error is. `kind` is one of:

    - an answer with an error status: wrong_token, no_credit, no_right, not_there, conflict, too_large, busy, broken,
      refused (any other); `status` is the number, `wait` the seconds that the Hub asks to wait;
    - an answer that refuses without a status: card (of the model card), storage (of large files);
    - no answer: offline (the Hub is switched off), lost (a connection), io (a system error that names no file);
    - strange: something else answered instead of the Hub, or the answer is malformed;
    - incomplete: an answer lacks what it should hold;
    - no_room: the local disk is full.

    `subject` says what the answer is about, if the client knows: gated, no_revision or no_repository (also for a
    refused token). `reason` is the Hub's message, `cause` the error that holds it. `from_client`: it was raised in the
    client, so it is not a mistake of ours. `uncertain`: the Hub may have done what was requested all the same.
    """

    kind: str
    cause: BaseException
    subject: str | None = None
    status: int | None = None
    reason: str = ""
    wait: str = "60"
    from_client: bool = False
    uncertain: bool = False


def classify(error: BaseException) -> Refusal | None:
    """Return what an error of the Hub's client, or one of its causes, is; None if it has nothing to do with the Hub.

    In the chain of causes, an answer of the Hub takes precedence over a lost connection, that over another system
    error, and that over a value that could not be read.
    """
    chain = list(_chain(error))
    for look in (_answer, _lost, _io, _unreadable):
        for cause in chain:
            found = look(cause)
            if found is not None:
                return found
    return None


def key_of(refusal: Refusal, table: Mapping[str, str]) -> str | None:
    """Return the key in an area's table for a refusal: by its subject, else its kind, else "answered" (there is a
    status) or "unanswered". None if the table has none of these."""
    usual = "unanswered" if refusal.status is None else "answered"
    return next((table[name] for name in (refusal.subject, refusal.kind, usual) if name and name in table), None)


def clean(text: str, owner: Owner) -> str:
    """Return a message of the Hub as one short line without the token."""
    line = " ".join(text.split())
    if isinstance(owner.token, str) and owner.token:
        line = line.replace(owner.token, "***")
    return line[:200].rstrip(". ")


@contextmanager
def in_words(repo_id: str, owner: Owner, *, lost: str = "publish.unreachable") -> Iterator[None]:
    """Turn what the client raises inside the block into UserError; `lost` is the key for a lost connection."""
    try:
        yield
    except Exception as error:
        known = next((cause for cause in _chain(error) if isinstance(cause, UserError)), None)
        if known is not None:
            raise known from None
        refusal = classify(error)
        if refusal is None:
            raise
        if refusal.kind == "no_room":
            raise no_room(repo_id) from error
        key = key_of(refusal, _SENTENCES | {"lost": lost, "io": lost})
        if key is None:
            raise
        status = "LFS" if refusal.kind == "storage" else refusal.status
        facts = {"repo": repo_id, "endpoint": reach.endpoint(), "status": status, "wait": refusal.wait}
        raise UserError(key, **facts, reason=clean(refusal.reason, owner)) from error


def no_room(repo_id: str) -> UserError:
    """Return the error for a full disk."""
    return UserError("publish.no_room", repo=repo_id, folder=settings.home())


def uncertain(error: BaseException) -> bool:
    """Return whether the Hub may have done what was requested although this error was raised."""
    refusal = classify(error)
    return refusal is not None and refusal.uncertain


def _answer(cause: BaseException) -> Refusal | None:
    """Return what the Hub, or the operating system about the local disk, clearly answered; None for other errors."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(cause, HfHubHTTPError):
        return _with_status(cause)
    if isinstance(cause, OfflineModeIsEnabled):
        return Refusal("offline", cause)
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refusal("no_room", cause)
    if type(cause) is ValueError and "README.md" in str(cause):
        return Refusal("card", cause, reason=str(cause))
    if type(cause) is ValueError and "LFS batch API" in str(cause):
        return Refusal("storage", cause, reason=(str(cause).rpartition("`: `")[2] or str(cause)).rstrip("`"))
    return None


def _with_status(error: Any) -> Refusal:
    response = error.response
    status = response.status_code
    retry_after = response.headers.get("Retry-After") or ""
    return Refusal(
        _BY_STATUS.get(status, "broken" if status >= 500 else "refused"),
        error,
        _subject(error),
        status,
        str(error.server_message or response.headers.get("X-Error-Message") or error),
        retry_after if retry_after.isdigit() else "60",
        from_client=True,
        uncertain=status >= 500 or status == 408,
    )


def _subject(error: BaseException) -> str | None:
    from huggingface_hub import errors

    kinds = {
        errors.GatedRepoError: "gated",
        errors.RevisionNotFoundError: "no_revision",
        errors.RepositoryNotFoundError: "no_repository",
    }
    return next((name for kind, name in kinds.items() if isinstance(error, kind)), None)


def _lost(cause: BaseException) -> Refusal | None:
    """Return the refusal for a network error; None for other errors."""
    import httpx2

    connected = not isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout)
    reason = str(cause) or type(cause).__name__
    if isinstance(cause, httpx2.TransportError):
        return Refusal("lost", cause, reason=reason, from_client=True, uncertain=connected)
    return Refusal("lost", cause, reason=reason) if isinstance(cause, ConnectionError) else None


def _io(cause: BaseException) -> Refusal | None:
    """Return the refusal for a system error that names no file, with no network error behind it; None for others."""
    if isinstance(cause, OSError) and cause.filename is None:
        return Refusal("io", cause, reason=str(cause) or type(cause).__name__)
    return None


def _unreadable(cause: BaseException) -> Refusal | None:
    """Return the refusal for an answer that is not the Hub's, or that lacks what it should hold; None for other
    errors."""
    said = ("alformed", "improperly formatted")
    garbled = type(cause).__name__ == "JSONDecodeError" or any(words in str(cause) for words in said)
    if isinstance(cause, ValueError) and garbled:
        return Refusal("strange", cause, from_client=_from_client(cause), uncertain=True)
    if isinstance(cause, _INCOMPLETE) and _from_client(cause):
        return Refusal("incomplete", cause, from_client=True)
    return None


def _from_client(error: BaseException) -> bool:
    """Return whether the error was raised while the client read an answer: our own mistakes are not reclassified."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__", "").startswith("huggingface_hub") for frame, _ in frames)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes: the client wraps some errors."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
