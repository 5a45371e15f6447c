"""Whether the Hub can be reached is asked once, quickly, and remembered."""

import http.server
import socket
import threading
import time

import pytest

from core.hub import reach


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    reach.forget()
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield
    reach.forget()


class Server:
    """An HTTP server that answers everything with one status."""

    def __init__(self, status):
        self.calls = calls = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                calls.append(self.path)
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                """Stay quiet."""

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def serve(monkeypatch):
    servers = []

    def start(status):
        servers.append(Server(status))
        monkeypatch.setenv("HF_ENDPOINT", servers[-1].address + "/")
        return servers[-1]

    yield start
    for server in servers:
        server.server.shutdown()
        server.server.server_close()


@pytest.fixture
def silent(monkeypatch):
    """An address that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield listener


@pytest.mark.parametrize(("status", "reached"), [(200, True), (404, True), (502, False), (503, False)])
def test_any_answer_but_a_gateways_is_the_hub(serve, status, reached):
    serve(status)
    assert reach.reachable() is reached


def test_it_is_asked_once_a_minute(serve, monkeypatch):
    server = serve(200)
    assert [reach.reachable() for _ in range(3)] == [True] * 3 and len(server.calls) == 1
    monkeypatch.setattr(reach, "REMEMBERED_SECONDS", 0.0)
    assert reach.reachable() and len(server.calls) == 2


def test_offline_mode_asks_nobody(serve, monkeypatch):
    server = serve(200)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not reach.reachable() and not server.calls


def test_a_silent_address_is_given_up_in_time(silent, monkeypatch):
    monkeypatch.setattr(reach, "PROBE_SECONDS", 0.3)
    started = time.monotonic()
    assert not reach.reachable()
    assert time.monotonic() - started < 5
    assert not reach.reachable()


def test_a_closed_port_and_a_name_that_is_none_are_unreachable(monkeypatch):
    for address in ("http://127.0.0.1:9", "nonsense", "http://no-such-host.invalid"):
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert not reach.reachable()


def test_a_hub_that_stopped_answering_is_remembered_too(serve):
    server = serve(200)
    assert reach.reachable()
    reach.mark_unreachable()
    assert not reach.reachable() and len(server.calls) == 1
