"""The visitor behind a request: a signed-in owner, the one person of a laptop, or a stranger on a Space."""

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core import logs, settings

COOKIE = "tunescope_visitor"
STRANGER = "stranger "
"""The prefix of the keys of visitors who are not signed in."""
_COOKIE = re.compile(r"[A-Za-z0-9_-]{22}")
_YEAR = 365 * 24 * 3600


@dataclass(frozen=True)
class Visitor:
    """`key` tells visitors apart: strangers by a cookie, those without one not at all. `request` is the request's id.

    `counted` is the key under which their requests are counted: the address for a visitor without a cookie.
    """

    key: str
    counted: str
    request: str = ""
    stranger: bool = False
    cookie: str = ""

    @property
    def named(self) -> str:
        """A name for the log."""
        return logs.pseudonym(self.key)


NOBODY = Visitor("", "")


def who(session: Mapping[str, Any], cookie: str, address: str, request: str) -> Visitor:
    """Return the visitor behind a request, from Gradio's signed session, our cookie and the address."""
    if not settings.on_space():
        return Visitor("local", "local", request)
    sub = _signed_in(session)
    if sub:
        return Visitor(f"owner {sub}", f"owner {sub}", request)
    known = cookie if _COOKIE.fullmatch(cookie) else ""
    counted = f"{STRANGER}{known}" if known else f"address {address}"
    return Visitor(f"{STRANGER}{known}", counted, request, stranger=True, cookie=known)


def _signed_in(session: Mapping[str, Any]) -> str:
    """Return the OAuth `sub`, as the handlers see it; empty unless sign-in is real and has not expired."""
    info = session.get("oauth_info") if settings.can_sign_in() else None
    if not isinstance(info, dict) or (info.get("expires_at") or time.time() + 1) < time.time():
        return ""
    return str((info.get("userinfo") or {}).get("sub") or "")


def new_cookie(visitor: Visitor) -> str | None:
    """Return the header that gives a stranger a cookie; None for all others and for those who have one."""
    if not visitor.stranger or visitor.cookie:
        return None
    return f"{COOKIE}={secrets.token_urlsafe(16)}; Path=/; Max-Age={_YEAR}; HttpOnly; Secure; SameSite=None"
