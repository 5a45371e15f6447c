"""The Hub as jobs need it: the client with the caller's token, who the caller is, and refusals in words."""

import errno
import hashlib
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from core import settings
from core.errors import UserError
from core.workspace import Owner
from inference import hub

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LABEL = "tunescope"
"""The label of our jobs; its value is the run's id."""
_REMEMBERED_SECONDS = 60.0
_WAITS = (0.5, 2.0, 5.0)
_PASSING = (408, 429, 500, 502, 503, 504)
Answer = TypeVar("Answer")
UNCERTAIN = ("job.unreachable", "job.hub_broken", "job.strange")
"""The refusals after which the Hub may have done what it was asked all the same."""
_INCOMPLETE = (KeyError, TypeError, AttributeError)
"""What the client raises over an answer that lacks what it should hold."""
_known: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}


def token_of(owner: Owner) -> str:
    """The caller's token. Raises UserError where there is none: the process's own is never used for them."""
    if not isinstance(owner.token, str) or not owner.token:
        raise UserError("core.sign_in" if settings.on_space() else "job.no_token")
    return owner.token


def api(owner: Owner) -> "HfApi":
    """The client, with the caller's token and no other, and with a time limit: of itself it waits for ever.

    Raises UserError where the Hub is switched off.
    """
    from huggingface_hub import HfApi

    from finetune.publish import calls

    if settings.hub_offline():
        raise UserError("job.offline")
    calls.limit_time()
    return HfApi(endpoint=hub.endpoint(), token=token_of(owner))


def whoami(owner: Owner) -> dict[str, Any]:
    """Whose token it is; remembered for a minute, for the Hub answers this question only so often."""
    token = token_of(owner)
    key = (hub.endpoint(), hashlib.sha256(token.encode()).hexdigest())
    asked, me = _known.get(key, (-_REMEMBERED_SECONDS, {}))
    if time.monotonic() - asked >= _REMEMBERED_SECONDS:
        with in_words(owner, "whoami"):
            me = again(lambda: api(owner).whoami(token=token))
        if not isinstance(me, dict) or not isinstance(me.get("name"), str):
            raise UserError("job.strange", value="whoami", endpoint=hub.endpoint())
        _known[key] = (time.monotonic(), me)
    return me


def again(call: Callable[[], Answer]) -> Answer:
    """Make a call that is safe to repeat; a passing failure (busy, broken or silent Hub) is tried three times more."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    for wait in _WAITS:
        try:
            return call()
        except HfHubHTTPError as error:
            if error.response.status_code not in _PASSING:
                raise
        except httpx2.TransportError:
            pass
        time.sleep(wait)
    return call()


@contextmanager
def in_words(owner: Owner, what: str) -> Iterator[None]:
    """Turn what the client raises inside the block into a sentence; `what` names the call: a repository or a job."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    from finetune.publish.refusals import no_answer_of_the_hub

    try:
        yield
    except UserError:
        raise
    except Exception as error:
        for cause in _chain(error):
            if isinstance(cause, HfHubHTTPError):
                raise _refusal(cause, owner, what) from cause
            if isinstance(cause, OfflineModeIsEnabled):
                raise UserError("job.offline") from None
            if isinstance(cause, httpx2.TransportError | ConnectionError):
                reason = clean(str(cause) or type(cause).__name__, owner)
                raise UserError("job.unreachable", value=what, endpoint=hub.endpoint(), reason=reason) from cause
            if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError("job.no_room", value=what, folder=settings.home()) from cause
            if _from_client(cause) and (no_answer_of_the_hub(cause) or isinstance(cause, _INCOMPLETE)):
                raise UserError("job.strange", value=what, endpoint=hub.endpoint()) from cause
        raise


def _from_client(error: BaseException) -> bool:
    """Whether the error arose while the client read an answer: our own mistakes stay what they are."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__", "").startswith("huggingface_hub") for frame, _ in frames)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it: the client wraps some."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


_BY_STATUS = {401: "job.wrong_token", 402: "job.no_credit", 403: "job.no_right", 404: "job.not_there", 429: "job.busy"}


def _refusal(error: Any, owner: Owner, what: str) -> UserError:
    response = error.response
    status = response.status_code
    code = _BY_STATUS.get(status, "job.hub_broken" if status >= 500 or status == 408 else "job.refused")
    reason = clean(error.server_message or response.headers.get("X-Error-Message") or str(error), owner)
    wait = response.headers.get("Retry-After") or "60"
    return UserError(code, value=what, endpoint=hub.endpoint(), status=status, reason=reason, wait=wait)


def clean(text: str, owner: Owner) -> str:
    """What the Hub said, short, in one line, without the token."""
    line = " ".join(text.split())
    if isinstance(owner.token, str) and owner.token:
        line = line.replace(owner.token, "***")
    return line[:200].rstrip(". ")
