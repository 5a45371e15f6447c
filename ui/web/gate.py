"""The gate before Gradio's routes: who sends a request, what they may do, and how often.

To Gradio, a session hash, an event id, an upload's id or the path of an uploaded file is proof of identity: whoever
knows one reads the stream behind it, cancels it, gives it other inputs or imports the file. Here each of them belongs
to the visitor who used or received it first. `docs/security.md` lists the attacks that were tried.
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
"""Gradio's routes that this page does not use."""
LARGEST_BODY = 8 * limits.MB
_LONGEST_ID = 128
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Refused(Exception):
    """The request is refused; the sentence is sent to the visitor."""

    def __init__(self, status: int, sentence: str, why: str) -> None:
        super().__init__(sentence)
        self.status, self.why = status, why


@dataclass
class IncomingRequest:
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
        request = _incoming(scope)
        scope["tunescope"] = request.visitor
        try:
            receive = await self._let_in(request, receive)
        except Refused as refusal:
            logs.event(
                "turned away", id=request.visitor.request, visitor=request.visitor.named,
                route=_route_name(request.route), why=refusal.why, status=refusal.status,
            )  # fmt: skip
            await _refuse(refusal, request, send)
            return
        await self.app(scope, receive, self._answering(request, send))

    async def _let_in(self, request: IncomingRequest, receive: Receive) -> Receive:
        """Check a request. Return the `receive` from which the app reads the body. Raises Refused."""
        _check_host(request)
        _check_origin(request)
        if not request.route:
            return receive
        if request.route.startswith(CLOSED):
            raise Refused(404, say("gate.no_route"), "closed")
        if request.method == "POST":
            self._count(request)
            if request.route.startswith("upload"):
                self._check_upload(request)
            else:
                request.body, receive = await _whole(receive)
        self._check_ids(request)
        self._check_files(request)
        return receive

    def _count(self, request: IncomingRequest) -> None:
        try:
            self.requests.count(request.visitor.counted)
        except UserError as error:
            raise Refused(429, str(error), error.code) from error

    def _check_upload(self, request: IncomingRequest) -> None:
        if request.visitor.stranger:
            raise Refused(403, say("core.sign_in"), "core.sign_in")
        size, most = request.headers.get("content-length", ""), limits.bound("upload")
        if most is not None and size.isdigit() and int(size) > most * limits.MB + 10_000:
            facts = {"size": round(int(size) / limits.MB), "most": most, "variable": "TUNESCOPE_LIMIT_UPLOAD_MB"}
            raise Refused(413, say("limits.upload", **facts), "limits.upload")
        try:
            limits.check_uploads(self.uploads.size(request.visitor.key), int(size) if size.isdigit() else 0)
        except UserError as error:
            raise Refused(413, str(error), error.code) from error

    def _check_ids(self, request: IncomingRequest) -> None:
        """Check that sessions and uploads belong to the visitor who named them first, and events to the one who
        received them."""
        parts = request.route.strip("/").split("/")
        body = request.body if isinstance(request.body, dict) else {}
        sessions = [*request.query.get("session_hash", []), body.get("session_hash")]
        sessions += [parts[1]] if parts[0] == "heartbeat" and len(parts) > 1 else []
        mine = self._may("session", sessions, request)
        mine = mine and self._may("upload", request.query.get("upload_id", []), request)
        events = [body.get("event_id")] if parts[0] in ("cancel", "reset") else []
        events += parts[-1:] if parts[0] == "call" and request.method == "GET" else []
        mine = mine and all(self._has("event", name, request) for name in events if name is not None)
        if not mine:
            raise Refused(403, say("gate.not_yours"), "not theirs")

    def _may(self, kind: str, names: list[Any], request: IncomingRequest) -> bool:
        """Return whether the visitor may use the id. A POST makes an unused id theirs; a GET of an unused id changes
        nothing.

        A request may name one id only, and a short one: named ids are stored.
        """
        ids = {str(name) for name in names if name is not None}
        if len(ids) > 1 or any(len(name) > _LONGEST_ID for name in ids):
            return False
        use = self.bindings.claim if request.method == "POST" else self.bindings.free
        return all(use(kind, name, request.visitor.key) for name in ids)

    def _has(self, kind: str, name: Any, request: IncomingRequest) -> bool:
        return self.bindings.has(kind, str(name), request.visitor.key)

    def _check_files(self, request: IncomingRequest) -> None:
        named = request.route.partition("file=")[2] if request.route.startswith("file=") else None
        if not self.uploads.open_to([named, request.body], request.visitor.key):
            raise Refused(403, say("gate.not_yours"), "not theirs")

    def _answering(self, request: IncomingRequest, send: Send) -> Send:
        """Return a `send` that passes the answer on and records who owns the event or the uploaded files in it."""
        kept = bytearray() if request.method == "POST" and _tells_ids(request.route) else None
        cookie = new_cookie(request.visitor) if request.scope["path"] == "/" else None

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and cookie:
                message = {**message, "headers": [*message.get("headers", []), (b"set-cookie", cookie.encode())]}
            if message["type"] == "http.response.body" and kept is not None:
                kept.extend(message.get("body", b""))
                if not message.get("more_body"):
                    self._remember(request, bytes(kept))
            await send(message)

        return answer

    def _remember(self, request: IncomingRequest, answer: bytes) -> None:
        reply = _json(answer)
        if isinstance(reply, dict) and isinstance(reply.get("event_id"), str):
            self.bindings.give("event", reply["event_id"], request.visitor.key)
            self.bindings.claim("session", reply["event_id"], request.visitor.key)
        elif isinstance(reply, list):
            for path in reply:
                self.uploads.give(str(path), request.visitor.key)


def _tells_ids(route: str) -> bool:
    return route.startswith(("queue/join", "call/", "upload"))


def _route_name(route: str) -> str:
    """Return the route without ids and paths, for the log."""
    return "/".join(route.partition("=")[0].split("/")[:1]) or "page"


def _incoming(scope: Message) -> IncomingRequest:
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
    return IncomingRequest(scope, visitor, headers, route, query=query)


def _check_origin(request: IncomingRequest) -> None:
    """Refuse requests that another site's page sends with this visitor's cookie or, at home, with this machine's
    rights.

    Gradio only withholds the answer, and only at home. `sec-fetch-site` is set by the browser itself and cannot be
    forged by a page; it is right behind proxies that change the host's name, too.
    """
    origin = request.headers.get("origin")
    if origin is None or request.headers.get("sec-fetch-site") == "same-origin":
        return
    if settings.on_space() and "session=" not in request.headers.get("cookie", ""):
        return
    if urlsplit(origin).netloc not in ({request.headers.get("host", "")} | settings.own_hosts()) - {""}:
        raise Refused(403, say("gate.other_site"), "other site")


def _check_host(request: IncomingRequest) -> None:
    """Refuse requests, at home and without a password, to a host name that is neither local nor one of `own_hosts`.

    Another site can point its own name at this machine after its page is loaded (DNS rebinding): to the browser, page
    and app are then one site.
    """
    host = request.headers.get("host", "")
    if settings.on_space() or password() or host in settings.own_hosts() | {""}:
        return
    name, _, port = host.rpartition(":")
    if not loopback((name if port.isdigit() else host).strip("[]").lower()):
        raise Refused(403, say("gate.other_name", host=host[:80]), "other name")


async def _whole(receive: Receive) -> tuple[Any, Receive]:
    """Read the body. Return it as JSON (None if it is not JSON) and a `receive` that returns it once more."""
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


async def _refuse(refusal: Refused, request: IncomingRequest, send: Send) -> None:
    """Answer with a sentence, as Gradio's page shows it."""
    body = json.dumps({"detail": str(refusal), "error": str(refusal)}, ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
