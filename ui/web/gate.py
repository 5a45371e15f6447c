"""The gate before Gradio's routes: who asks, whether they may, how often.

Gradio takes a session hash, an event id, an upload's id or the path of an uploaded file for a proof of who asks:
whoever knows one reads the stream behind it, cancels it, gives it other inputs or imports the file. Here each of
them belongs to the visitor who used or received it first. `docs/security.md` lists what was tried.
"""

import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from core import limits, logs, settings
from core.errors import UserError
from core.words import say
from ui.web.address import loopback, password
from ui.web.ownership import Bindings, Uploads
from ui.web.visitor import COOKIE, Visitor, new_cookie, who

API = "/gradio_api/"
CLOSED = (
    "stream/", "component_server", "proxy=", "process_recording", "vibe-", "undo-vibe-edit", "deep_link", "dev/",
    "custom_component/", "profiling/", "run-history/", "runs", "file=http:", "file=https:", "file/",
)  # fmt: skip
"""Gradio's routes that this page has no use for."""
LARGEST_BODY = 8 * limits.MB
_LONGEST_ID = 128
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Refused(Exception):
    """Not let through; the sentence goes to who asks."""

    def __init__(self, status: int, sentence: str, why: str) -> None:
        super().__init__(sentence)
        self.status, self.why = status, why


@dataclass
class Asked:
    """One request as the gate sees it. `route` is what follows Gradio's prefix, empty for other pages."""

    scope: Message
    visitor: Visitor
    headers: dict[str, str]
    route: str = ""
    body: Any = None
    query: dict[str, list[str]] = field(default_factory=dict)

    @property
    def method(self) -> str:
        return self.scope["method"]


class Gate:
    """ASGI middleware around Gradio's app, within its session's."""

    def __init__(self, app: Callable, uploads: Uploads, bindings: Bindings) -> None:
        self.app, self.uploads, self.bindings = app, uploads, bindings
        self.requests = limits.Requests()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = _asked(scope)
        scope["tunescope"] = asked.visitor
        try:
            receive = await self._let_in(asked, receive)
        except Refused as refusal:
            logs.event(
                "turned away", id=asked.visitor.request, visitor=asked.visitor.named, route=_route_name(asked.route),
                why=refusal.why, status=refusal.status,
            )  # fmt: skip
            await _refuse(refusal, asked, send)
            return
        await self.app(scope, receive, self._answering(asked, send))

    async def _let_in(self, asked: Asked, receive: Receive) -> Receive:
        """Raises Refused; returns what the app reads the body from."""
        _check_host(asked)
        _check_origin(asked)
        if not asked.route:
            return receive
        if asked.route.startswith(CLOSED):
            raise Refused(404, say("gate.no_route"), "closed")
        if asked.method == "POST":
            self._count(asked)
            if asked.route.startswith("upload"):
                self._check_upload(asked)
            else:
                asked.body, receive = await _whole(receive)
        self._check_ids(asked)
        self._check_files(asked)
        return receive

    def _count(self, asked: Asked) -> None:
        try:
            self.requests.count(asked.visitor.counted)
        except UserError as error:
            raise Refused(429, str(error), error.code) from error

    def _check_upload(self, asked: Asked) -> None:
        if asked.visitor.stranger:
            raise Refused(403, say("core.sign_in"), "core.sign_in")
        size, most = asked.headers.get("content-length", ""), limits.bound("upload")
        if most is not None and size.isdigit() and int(size) > most * limits.MB + 10_000:
            facts = {"size": round(int(size) / limits.MB), "most": most, "variable": "TUNESCOPE_LIMIT_UPLOAD_MB"}
            raise Refused(413, say("limits.upload", **facts), "limits.upload")
        try:
            limits.check_uploads(self.uploads.size(asked.visitor.key), int(size) if size.isdigit() else 0)
        except UserError as error:
            raise Refused(413, str(error), error.code) from error

    def _check_ids(self, asked: Asked) -> None:
        """Sessions and uploads belong to who names them first, events to who was given them."""
        parts = asked.route.strip("/").split("/")
        body = asked.body if isinstance(asked.body, dict) else {}
        sessions = [*asked.query.get("session_hash", []), body.get("session_hash")]
        sessions += [parts[1]] if parts[0] == "heartbeat" and len(parts) > 1 else []
        mine = self._may("session", sessions, asked)
        mine = mine and self._may("upload", asked.query.get("upload_id", []), asked)
        events = [body.get("event_id")] if parts[0] in ("cancel", "reset") else []
        events += parts[-1:] if parts[0] == "call" and asked.method == "GET" else []
        mine = mine and all(self._has("event", name, asked) for name in events if name is not None)
        if not mine:
            raise Refused(403, say("gate.not_yours"), "not theirs")

    def _may(self, kind: str, names: list[Any], asked: Asked) -> bool:
        """A POST makes the id theirs; to look at one that is nobody's makes no difference.

        A request names one, and a short one: what is named is kept.
        """
        told = {str(name) for name in names if name is not None}
        if len(told) > 1 or any(len(name) > _LONGEST_ID for name in told):
            return False
        use = self.bindings.claim if asked.method == "POST" else self.bindings.free
        return all(use(kind, name, asked.visitor.key) for name in told)

    def _has(self, kind: str, name: Any, asked: Asked) -> bool:
        return self.bindings.has(kind, str(name), asked.visitor.key)

    def _check_files(self, asked: Asked) -> None:
        named = asked.route.partition("file=")[2] if asked.route.startswith("file=") else None
        if not self.uploads.open_to([named, asked.body], asked.visitor.key):
            raise Refused(403, say("gate.not_yours"), "not theirs")

    def _answering(self, asked: Asked, send: Send) -> Send:
        """Passes the answer on; remembers whose the event or the uploaded files in it are."""
        kept = bytearray() if asked.method == "POST" and _tells_ids(asked.route) else None
        cookie = new_cookie(asked.visitor) if asked.scope["path"] == "/" else None

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and cookie:
                message = {**message, "headers": [*message.get("headers", []), (b"set-cookie", cookie.encode())]}
            if message["type"] == "http.response.body" and kept is not None:
                kept.extend(message.get("body", b""))
                if not message.get("more_body"):
                    self._remember(asked, bytes(kept))
            await send(message)

        return answer

    def _remember(self, asked: Asked, answer: bytes) -> None:
        told = _json(answer)
        if isinstance(told, dict) and isinstance(told.get("event_id"), str):
            self.bindings.give("event", told["event_id"], asked.visitor.key)
            self.bindings.claim("session", told["event_id"], asked.visitor.key)
        elif isinstance(told, list):
            for path in told:
                self.uploads.give(str(path), asked.visitor.key)


def _tells_ids(route: str) -> bool:
    return route.startswith(("queue/join", "call/", "upload"))


def _route_name(route: str) -> str:
    """The route without ids and paths in it, for the log."""
    return "/".join(route.partition("=")[0].split("/")[:1]) or "page"


def _asked(scope: Message) -> Asked:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        cookies = SimpleCookie()
    known = cookies.get(COOKIE)
    client = (scope.get("client") or ("", 0))[0]
    visitor = who(scope.get("session") or {}, known.value if known else "", client, secrets.token_hex(4))
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    _, _, route = scope["path"].partition(API)
    return Asked(scope, visitor, headers, route, query=query)


def _check_origin(asked: Asked) -> None:
    """Another site's page may not act with this visitor's cookie or, at home, with this machine's rights.

    Gradio keeps only the answer from it, and only at home. A browser says itself, and no page can make it say, that
    a request comes from the page's own site: that holds behind proxies that change the host's name, too.
    """
    origin = asked.headers.get("origin")
    if origin is None or asked.headers.get("sec-fetch-site") == "same-origin":
        return
    if settings.on_space() and "session=" not in asked.headers.get("cookie", ""):
        return
    if urlsplit(origin).netloc not in ({asked.headers.get("host", "")} | settings.own_hosts()) - {""}:
        raise Refused(403, say("gate.other_site"), "other site")


def _check_host(asked: Asked) -> None:
    """At home without a password, only by this machine's own names or those it was told of.

    Another site can let its own name lead to this machine, after its page is loaded: to the browser, page and app are
    then one site.
    """
    host = asked.headers.get("host", "")
    if settings.on_space() or password() or host in settings.own_hosts() | {""}:
        return
    name, _, port = host.rpartition(":")
    if not loopback((name if port.isdigit() else host).strip("[]").lower()):
        raise Refused(403, say("gate.other_name", host=host[:80]), "other name")


async def _whole(receive: Receive) -> tuple[Any, Receive]:
    """The body as JSON, None where it is none, and a `receive` that gives it once more."""
    body, messages = bytearray(), []
    while True:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY:
            most = LARGEST_BODY // limits.MB
            raise Refused(413, say("gate.body_too_large", most=most), "too large")
        if not message.get("more_body"):
            break
    messages.reverse()

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return _json(bytes(body)), again


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


async def _refuse(refusal: Refused, asked: Asked, send: Send) -> None:
    """Answer with a sentence, as Gradio's page shows it."""
    body = json.dumps({"detail": str(refusal), "error": str(refusal)}, ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
