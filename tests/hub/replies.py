"""The HTTP side of the Hub stand-in: reading a call, recording it, applying faults, writing the answer."""

import json
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from tests.hub.hubstore import Account

if TYPE_CHECKING:
    from tests.hub.standin import Fault, HubStandIn


class Refused(Exception):
    """An answer that is an error: status, message and headers."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


class _Cut(Exception):
    """The connection ends here, without a goodbye."""


class Call:
    """One request, who makes it, and the means to answer."""

    def __init__(self, handler: "Replies") -> None:
        parts = urlsplit(handler.path)
        self.handler = handler
        self.hub: HubStandIn = handler.server.hub  # type: ignore[attr-defined]
        self.method, self.path = handler.command, parts.path
        self.query = parse_qs(parts.query)
        self.fault: Fault | None = None
        self.token = (self.header("Authorization") or "").removeprefix("Bearer ")
        self.account = self.hub.account_of(self.token) if self.token else None
        self._body: bytes | None = None

    @property
    def role(self) -> str | None:
        return self.account.tokens[self.token] if self.account else None

    def header(self, name: str) -> str | None:
        return self.handler.headers.get(name)

    def signed_in(self) -> Account:
        if self.account is None:
            raise Refused(401, "Invalid username or password.")
        return self.account

    def body(self) -> bytes:
        """The whole body; a fault that cuts the connection strikes in the middle of it."""
        if self._body is None:
            if self.fault and self.fault.cut:
                self.handler.rfile.read(min(int(self.header("Content-Length") or 0) // 2, 1))
                raise _Cut
            self._body = b"".join(self._chunks())
        return self._body

    def _chunks(self) -> "list[bytes]":
        if "chunked" not in (self.header("Transfer-Encoding") or ""):
            return [self.handler.rfile.read(int(self.header("Content-Length") or 0))]
        chunks = []
        while size := int(self.handler.rfile.readline().split(b";")[0], 16):
            chunks.append(self.handler.rfile.read(size))
            self.handler.rfile.readline()
        self.handler.rfile.readline()
        return chunks

    def json(
        self,
        value: object,
        status: int = 200,
        headers: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": content_type, **(headers or {})})

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        """Write the answer; `cut` ends it halfway, `lost` before it begins, `corrupt` flips the last byte of a file."""
        if self.fault and self.fault.lost:
            raise _Cut
        if self.fault and self.fault.corrupt and content:
            content = content[:-1] + bytes([content[-1] ^ 1])
        self.handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        if self.method == "HEAD":
            return
        if self.fault and self.fault.cut:
            self.handler.wfile.write(content[: len(content) // 2])
            raise _Cut
        self.handler.wfile.write(content)


class Replies(BaseHTTPRequestHandler):
    """Answers calls; a subclass says which function answers which."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def route(self, call: Call) -> tuple[str, Callable[..., None], dict[str, str]]:
        raise NotImplementedError

    def answer(self) -> None:
        call = Call(self)
        kind, answer, facts = self.route(call)
        try:
            self._record(call, kind)
            self._apply_fault(call)
            self._answer(call, answer, facts)
        except _Cut:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer

    def _record(self, call: Call, kind: str) -> None:
        from tests.hub.standin import Request

        with call.hub.lock:
            call.hub.requests.append(Request(kind, call.method, self.path, call.header("Authorization")))
            due = [fault for fault in call.hub.faults if fault.due(kind, call.path)]
        call.fault = due[0] if due else None

    def _apply_fault(self, call: Call) -> None:
        fault = call.fault
        if fault is None:
            return
        fault.reached.set()
        if fault.hold:
            fault.hold.wait()
        if fault.cut and call.method != "GET":
            call.body()
            raise _Cut

    def _answer(self, call: Call, answer: Callable[..., None], facts: dict[str, str]) -> None:
        try:
            if call.fault and call.fault.status:
                raise Refused(call.fault.status, call.fault.message, call.fault.headers)
            if call.token and call.account is None:
                raise Refused(401, "Invalid credentials in Authorization header")
            answer(call, **facts)
        except Refused as refused:
            call.body()
            headers = {"X-Error-Message": refused.message, **refused.headers}
            call.json({"error": refused.message}, refused.status, headers)

    def log_message(self, format: str, *values: object) -> None:
        """Tests read `hub.requests` instead."""
