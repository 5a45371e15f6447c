"""What the Hub's client raises, as sentences: a refusal, a lost connection, a full disk."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core import settings
from core.errors import UserError
from core.workspace import Owner
from inference import hub

_BY_STATUS = {
    401: "publish.wrong_token",
    402: "publish.quota",
    403: "publish.no_right",
    404: "publish.no_repository",
    408: "publish.hub_broken",
    409: "publish.changed",
    412: "publish.changed",
    413: "publish.too_large",
    429: "publish.slow_down",
}


@contextmanager
def in_words(repo_id: str, owner: Owner, *, lost: str = "publish.unreachable") -> Iterator[None]:
    """Turn what the client raises inside the block into a sentence; `lost` is the one for a lost connection.

    A full disk is told from the network: both are OSErrors.
    """
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except Exception as error:
        chain = list(_chain(error))
        for cause in chain:
            if isinstance(cause, UserError):
                raise cause from None
            if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
                raise no_room(repo_id) from error
            if type(cause) is ValueError and "README.md" in str(cause):
                raise UserError("publish.card_refused", reason=_reason(str(cause), owner)) from error
            if type(cause) is ValueError and "LFS batch API" in str(cause):
                reason = _reason(str(cause).rpartition("`: `")[2] or str(cause), owner).rstrip("`")
                raise UserError("publish.refused", repo=repo_id, status="LFS", reason=reason) from error
            if isinstance(cause, HfHubHTTPError):
                raise _refusal(cause, repo_id, owner) from error
            if isinstance(cause, OfflineModeIsEnabled):
                raise UserError("publish.offline") from error
        if any(connection_lost(cause) for cause in chain):
            cause = next(cause for cause in chain if connection_lost(cause))
            reason = _reason(str(cause) or type(cause).__name__, owner)
            raise UserError(lost, repo=repo_id, endpoint=hub.endpoint(), reason=reason) from error
        if any(no_answer_of_the_hub(cause) for cause in chain):
            raise UserError("publish.strange", repo=repo_id, endpoint=hub.endpoint()) from error
        raise


def connection_lost(error: BaseException) -> bool:
    """Whether it is a matter of the network; an OSError with a file name is one of the disk."""
    import httpx2

    return isinstance(error, httpx2.TransportError) or (isinstance(error, OSError) and error.filename is None)


def no_answer_of_the_hub(error: BaseException) -> bool:
    """Whether something else answered in the Hub's place, or it answered something else than it should."""
    return isinstance(error, ValueError) and (
        type(error).__name__ == "JSONDecodeError" or "alformed" in str(error) or "improperly formatted" in str(error)
    )


def uncertain(error: BaseException) -> bool:
    """Whether the Hub may have done what it was asked although this error came back."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    for cause in _chain(error):
        if isinstance(cause, HfHubHTTPError):
            return cause.response.status_code >= 500 or cause.response.status_code == 408
        if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout):
            return False
        if isinstance(cause, httpx2.TransportError) or no_answer_of_the_hub(cause):
            return True
    return False


def no_room(repo_id: str) -> UserError:
    """The sentence for a full disk."""
    return UserError("publish.no_room", repo=repo_id, folder=settings.home())


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _refusal(error: Any, repo_id: str, owner: Owner) -> UserError:
    """The sentence for an answer that is an error."""
    response = error.response
    status = response.status_code
    code = _BY_STATUS.get(status, "publish.hub_broken" if status >= 500 else "publish.refused")
    reason = _reason(error.server_message or response.headers.get("X-Error-Message") or str(error), owner)
    return UserError(
        code,
        repo=repo_id,
        endpoint=hub.endpoint(),
        status=status,
        reason=reason,
        wait=_wait(response.headers.get("Retry-After")),
    )


def _wait(seconds: str | None) -> str:
    return seconds if seconds and seconds.isdigit() else "60"


def _reason(text: str, owner: Owner) -> str:
    """What the Hub said, short, in one line, without the token."""
    line = " ".join(text.split())
    if isinstance(owner.token, str) and owner.token:
        line = line.replace(owner.token, "***")
    return line[:200].rstrip(". ")
