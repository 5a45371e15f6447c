"""The gate by itself: what a request may name, by which name the app is asked, and what strangers can crowd out."""

import asyncio
import json
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from ui.web.gate import Gate
from ui.web.ownership import Bindings, Uploads

ADA = "owner ada"


@pytest.fixture
def house(monkeypatch, tmp_path):
    """A gate on a Space, and Ada's session and uploaded file behind it."""
    monkeypatch.setenv("SPACE_ID", "someone/tunescope")
    return House(tmp_path, Bindings(kept=50))


class House:
    """What stands behind the gate answers 200 to whatever is let through."""

    def __init__(self, folder, bindings):
        self.bindings, self.uploads = bindings, Uploads(folder, bindings)
        self.gate = Gate(self._answer, self.uploads, bindings)
        self.file = folder / "hash" / "diary.txt"
        self.file.parent.mkdir()
        self.file.write_text("Dear diary")
        self.uploads.give(str(self.file), ADA)
        bindings.claim("session", "hers", ADA)

    async def _answer(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    def ask(self, method, path, body=None, query="", headers=None):
        """The status that a stranger, or at home the one person, is answered."""
        sent, told = [{"type": "http.request", "body": json.dumps(body).encode()}], []

        async def receive():
            return sent.pop()

        async def send(message):
            told.append(message)

        named = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": named}
        with ThreadPoolExecutor(1) as thread:  # the main thread may have a loop of a browser's tests by now
            thread.submit(asyncio.run, self.gate(scope, receive, send)).result()
        return told[0]["status"]

    def join(self, session, query=""):
        return self.ask("POST", "/gradio_api/queue/join", {"session_hash": session}, query)


def test_a_path_longer_than_the_system_takes_is_still_the_file_it_means(house):
    crooked = f"{house.file.parent}{'/.' * 3000}/{house.file.name}"
    assert house.ask("GET", f"/gradio_api/file={house.file}") == 403
    assert house.ask("GET", f"/gradio_api/file={crooked}") == 403
    assert house.ask("POST", "/gradio_api/run/predict", {"data": [{"path": crooked}]}) == 403
    assert house.ask("POST", "/gradio_api/run/predict", {"data": ["a/b " * 3000]}) == 200
    assert house.uploads.open_to(crooked, ADA)


def test_strangers_cannot_crowd_out_what_is_somebodys(house):
    for number in range(200):
        house.join(f"made-up-{number}")
    assert house.join("hers") == 403
    assert house.uploads.open_to(str(house.file), ADA)


def test_a_request_names_one_session(house):
    assert house.join("one", "session_hash=one") == 200
    assert house.join(None, "session_hash=two&session_hash=three") == 403
    assert house.bindings.free("session", "two", ADA)


def test_what_is_named_is_not_kept_where_it_is_no_id(house):
    tracemalloc.start()
    for number in range(5):
        assert house.join(f"{number}{'x' * 4_000_000}") == 403
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 4_000_000


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "localhost", "[::1]:7860", "127.0.0.2", ""])
def test_at_home_the_machines_own_names_are_answered(house, monkeypatch, host):
    monkeypatch.delenv("SPACE_ID")
    assert house.ask("GET", "/", headers={"host": host}) == 200


@pytest.mark.parametrize("host", ["elsewhere.example:7860", "127.0.0.1.elsewhere.example", "[", "192.168.1.5:7860"])
def test_another_sites_name_that_leads_to_this_machine_is_refused(house, monkeypatch, host):
    """The browser takes page and app for one site then, so its own marks say nothing."""
    monkeypatch.delenv("SPACE_ID")
    rebound = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    assert house.ask("GET", "/", headers=rebound) == house.ask("POST", "/gradio_api/upload", headers=rebound) == 403
    monkeypatch.setenv("GRADIO_ROOT_PATH", f"http://{host}" if host != "[" else "")
    assert house.ask("GET", "/", headers=rebound) == (200 if host != "[" else 403)
    monkeypatch.setenv("TUNESCOPE_PASSWORD", "asked for by Gradio")
    assert house.ask("GET", "/", headers={"host": host}) == 200
