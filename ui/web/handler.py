"""Handlers: every handler of the page goes through `handler`, which finds the owner, refuses strangers on a Space,
speaks the caller's language and turns errors into sentences."""

import html
import inspect
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from core import logs, settings
from core.errors import UserError
from core.words import say, speak
from core.workspace import Owner, local_owner
from ui.web import language
from ui.web.visitor import NOBODY, Visitor


class Superseded(Exception):
    """The same browser tab has begun newer work: the result of the older work is not shown any more."""


ANONYMOUS = Owner("anonymous", False)
log = logging.getLogger("tunescope")


@dataclass(frozen=True)
class Caller:
    """Whose request it is: the owner of what they see, the language they read, the browser tab they sit at."""

    owner: Owner
    language: str
    session: str
    visitor: Visitor = NOBODY

    @property
    def anonymous(self) -> bool:
        return self.owner is ANONYMOUS

    @property
    def line(self) -> str:
        """The caller's place among those who take turns: the owner's, a stranger's, else this browser tab's.

        Whoever sends a request chooses its cookie and its tab: the prefixes keep both from naming an owner's line.
        """
        if not self.anonymous:
            return f"owner {self.owner.key}"
        return f"stranger {self.visitor.cookie}" if self.visitor.cookie else f"tab {self.session}"


def handler(*, open_to_anyone: bool = False, quiet: bool = False) -> Callable[[Callable], Callable]:
    """Make `fn(caller, *values)` an event handler. Every handler of the page is made by this; one of more than four
    inputs or outputs is also bound to them by name (`ui.parts.wiring.by_name`).

    On a Space only a signed-in visitor gets through, unless `open_to_anyone` (Compare alone may be). A `quiet`
    handler (timers, page loads) shows no message when it is refused.
    """

    def wrap(fn: Callable) -> Callable:
        def answer(request: gr.Request, profile: Any, token: Any, *values: Any, **named: Any) -> Any:
            with _logged(request, fn, quiet) as facts:
                context, caller = _enter(open_to_anyone, quiet, request, profile, token)
                facts["owner"] = logs.pseudonym(caller.owner.key)
                return _run(context, quiet, partial(fn, caller, *values, **named))

        def stream(request: gr.Request, profile: Any, token: Any, *values: Any, **named: Any) -> Iterator[Any]:
            with _logged(request, fn, quiet) as facts:
                context, caller = _enter(open_to_anyone, quiet, request, profile, token)
                facts["owner"] = logs.pseudonym(caller.owner.key)
                items = context.run(partial(fn, caller, *values, **named))
                try:
                    while (item := _run(context, quiet, next, items, _END)) is not _END:
                        yield item
                except Superseded:
                    return
                finally:
                    context.run(items.close)

        wrapped = stream if inspect.isgeneratorfunction(fn) else answer
        return _dressed(wrapped, fn, open_to_anyone)

    return wrap


_END = object()


def _visitor(request: Any) -> Visitor:
    """Return the visitor that the gate identified."""
    scope = getattr(getattr(request, "request", None), "scope", None) or {}
    return scope.get("tunescope", NOBODY)


def _logged(request: Any, fn: Callable, quiet: bool) -> Any:
    """Log the call when it ends; calls by timers and page loads at debug level."""
    visitor = _visitor(request)
    facts = {"id": visitor.request, "visitor": visitor.named, "handler": fn.__name__}
    return logs.timed("call", logging.DEBUG if quiet else logging.INFO, **facts)


def _dressed(wrapped: Any, fn: Callable, open_to_anyone: bool) -> Callable:
    """Give the wrapper the signature that Gradio reads: what it injects first, then the function's own values."""
    signature = inspect.signature(fn)
    own = list(signature.parameters.values())[1:]
    injected = {"request": gr.Request, "profile": gr.OAuthProfile | None, "token": gr.OAuthToken | None}
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    first = [inspect.Parameter(name, kind, annotation=hint) for name, hint in injected.items()]
    wrapped.__signature__ = signature.replace(parameters=[*first, *own])
    hints = {name: hint for name, hint in fn.__annotations__.items() if name != "caller"}
    wrapped.__annotations__ = {**injected, **hints}
    wrapped.__name__, wrapped.__qualname__, wrapped.__doc__ = fn.__name__, fn.__qualname__, fn.__doc__
    wrapped.__module__ = fn.__module__
    wrapped.tunescope_handler = True
    wrapped.open_to_anyone = open_to_anyone
    return wrapped


def _enter(open_to_anyone: bool, quiet: bool, request: Any, profile: Any, token: Any) -> tuple[Context, Caller]:
    """Return a context that speaks the caller's language, and the caller.

    A context is needed since Gradio gets each item of a generator from another thread.
    """
    context = copy_context()
    spoken = language.of_headers(request.headers.get("cookie"), request.headers.get("accept-language"))
    context.run(speak, spoken)
    owner = _run(context, quiet, _owner, profile, token, open_to_anyone)
    return context, Caller(owner, spoken, request.session_hash or "", _visitor(request))


def _run(context: Context, quiet: bool, fn: Callable, *values: Any) -> Any:
    """Run the function in the context; every error comes out as words."""
    try:
        return context.run(fn, *values)
    except Superseded:
        raise
    except Exception as error:
        raise context.run(_in_words, error, quiet) from error


def _owner(profile: gr.OAuthProfile | None, token: gr.OAuthToken | None, open_to_anyone: bool) -> Owner:
    if not settings.on_space():
        return local_owner()
    if profile is not None and token is not None and settings.can_sign_in() and profile.get("sub"):
        scopes = frozenset((token.scope or "").split()) or None
        return Owner(str(profile["sub"]), token.token, profile.username, token.expires_at, scopes)
    if not open_to_anyone:
        raise UserError("core.sign_in")
    return ANONYMOUS


def _in_words(error: Exception, quiet: bool) -> Exception:
    """Turn an error into a message: a sentence for a person's mistake, an id for a bug. Gradio renders messages as
    HTML, hence the escaping."""
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, UserError):
        return gr.Error(
            html.escape(str(error)), duration=20, visible=not quiet, title=say("page.cannot"), print_exception=False
        )
    if os.environ.get("TUNESCOPE_RERAISE"):
        return error
    broken = secrets.token_hex(4)
    log.error("broken %s", broken, exc_info=error)
    return gr.Error(
        say("page.broken", id=broken), duration=20, visible=not quiet, title=say("page.bug"), print_exception=False
    )
