"""The Hub as jobs need it: the client with the caller's token, who the caller is, errors as sentences."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from core import settings
from core.errors import UserError
from core.hub import reach, retries
from core.hub.errors import classify, clean, key_of
from core.workspace import Owner

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LABEL = "tunescope"
"""The label of our jobs; its value is the run's id."""
_REMEMBERED_SECONDS = 60.0
UNCERTAIN = ("job.unreachable", "job.hub_broken", "job.strange")
"""Errors after which the Hub may have carried out the request all the same."""
_SENTENCES = {
    "wrong_token": "job.wrong_token",
    "no_credit": "job.no_credit",
    "no_right": "job.no_right",
    "not_there": "job.not_there",
    "busy": "job.busy",
    "broken": "job.hub_broken",
    "answered": "job.refused",
    "offline": "job.offline",
    "lost": "job.unreachable",
    "no_room": "job.no_room",
    "strange": "job.strange",
    "incomplete": "job.strange",
}
_READ = ("strange", "incomplete")
"""Kinds that become a sentence only where the client raised them: errors of our own code are re-raised as they are."""
_known: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}


def token_of(owner: Owner) -> str:
    """Return the caller's token. Raises UserError where there is none: the process's own is never used instead."""
    if not isinstance(owner.token, str) or not owner.token:
        raise UserError("core.sign_in" if settings.on_space() else "job.no_token")
    return owner.token


def api(owner: Owner) -> "HfApi":
    """Return a client with the caller's token and no other, and with a time limit, which it lacks by default.

    Raises UserError where the Hub is switched off.
    """
    from huggingface_hub import HfApi

    if settings.hub_offline():
        raise UserError("job.offline")
    retries.limit_time()
    return HfApi(endpoint=reach.endpoint(), token=token_of(owner))


def whoami(owner: Owner) -> dict[str, Any]:
    """Return whose token it is; cached for a minute, since the Hub limits how often it answers this."""
    token = token_of(owner)
    key = (reach.endpoint(), hashlib.sha256(token.encode()).hexdigest())
    requested, me = _known.get(key, (-_REMEMBERED_SECONDS, {}))
    if time.monotonic() - requested >= _REMEMBERED_SECONDS:
        with in_words(owner, "whoami"):
            me = retries.again(lambda: api(owner).whoami(token=token))
        if not isinstance(me, dict) or not isinstance(me.get("name"), str):
            raise UserError("job.strange", value="whoami", endpoint=reach.endpoint())
        _known[key] = (time.monotonic(), me)
    return me


@contextmanager
def in_words(owner: Owner, what: str) -> Iterator[None]:
    """Turn what the client raises inside the block into a UserError; `what` names the call: a repository or a job.

    The error's cause is the most specific one that the client raised.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        refusal = classify(error)
        if refusal is None or (refusal.kind in _READ and not refusal.from_client):
            raise
        key = key_of(refusal, _SENTENCES)
        if key is None:
            raise
        facts = {"value": what, "endpoint": reach.endpoint(), "status": refusal.status, "wait": refusal.wait}
        reason = clean(refusal.reason, owner)
        raise UserError(key, **facts, reason=reason, folder=settings.home()) from refusal.cause
