"""The reader's language: a cookie set by the page's own switch, else what the browser asks for.

A `Spoken` label says itself when the page is served, so one page serves every language: Gradio turns what it
cannot write as JSON into a string at that moment, and the middleware has set the language by then.
"""

from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any

from core.words import LOCALES, nearest, say, speak

COOKIE = "tunescope_language"


class Spoken:
    """A sentence that is made, in the current language, each time it is converted to a string."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make

    def __str__(self) -> str:
        return self._make()

    def __deepcopy__(self, memo: dict) -> "Spoken":
        return self


def words(key: str, /, **facts: object) -> Any:
    """Return the label `key`, which says itself in the reader's language when the page is served."""
    say(key, **facts)
    return Spoken(lambda: say(key, **facts))


def of_headers(cookie: str | None, accept: str | None) -> str:
    """Return the language of a request, one of `core.words.LOCALES`."""
    try:
        chosen = SimpleCookie(cookie or "").get(COOKIE)
    except CookieError:
        chosen = None
    return chosen.value if chosen is not None and chosen.value in LOCALES else nearest(accept)


class ReadersLanguage:
    """ASGI middleware that speaks the language of each request."""

    def __init__(self, app: Callable) -> None:
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            cookie, accept = headers.get(b"cookie", b""), headers.get(b"accept-language", b"")
            speak(of_headers(cookie.decode("latin-1"), accept.decode("latin-1")))
        await self.app(scope, receive, send)
