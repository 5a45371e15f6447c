"""Visitors of a simulated Space over raw HTTP, as a stranger's program would do it."""

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from tests.app_process import SPACE, App, running_app, session_cookie

CLOSING = ("process_completed", "unexpected_error")
NO_PROVIDER = {"OPENID_PROVIDER_URL": "http://127.0.0.1:9"}


@contextmanager
def running_space(folder: Path, environment: dict[str, str] | None = None) -> Iterator[App]:
    """The app as a child process that takes itself for a Space; Gradio's uploads lie under `folder`, too."""
    own = {"GRADIO_TEMP_DIR": str(folder / "uploads"), "OMP_NUM_THREADS": "1"}
    with running_app(folder, {**SPACE, **NO_PROVIDER, **own, **(environment or {})}) as app:
        yield app


def new_session() -> str:
    """What Gradio's page calls itself: one for each browser tab."""
    return uuid.uuid4().hex[:11]


@dataclass
class Visitor:
    """Somebody at one browser tab; `sub` is empty for who is not signed in."""

    app: App
    sub: str = ""
    session: str = field(default_factory=new_session)
    token: str = "hf_token_of_the_test"

    def __post_init__(self) -> None:
        base = f"{self.app.url}/gradio_api/"
        self.client = httpx.Client(base_url=base, headers=self.headers, timeout=120, verify=False)

    @property
    def headers(self) -> dict[str, str]:
        return session_cookie(self.sub, self.token, self.sub) if self.sub else {}

    def get(self, route: str, **more: Any) -> httpx.Response:
        return self.client.get(route, **more)

    def post(self, route: str, body: Any = None, **more: Any) -> httpx.Response:
        return self.client.post(route, json=body, **more)

    def looks(self, route: str) -> int:
        """The status of a stream that may never end."""
        with self.client.stream("GET", route) as reply:
            return reply.status_code

    def call(self, entry: dict, data: list | dict, session: str | None = None) -> dict:
        """One entry through the queue; the closing message. In a new session, which takes Gradio a tenth of a second to
        make, or in one that nothing else is asked in meanwhile."""
        session = session or new_session()
        joined = self.join(entry, data, session)
        if joined.status_code != 200:
            return {"msg": "refused", "success": False, "output": {"error": joined.text}}
        closing = [message for message in self.read(session) if message["msg"] in CLOSING]
        return closing[-1]

    def predict(self, entry: dict, data: list, session: str | None = None) -> httpx.Response:
        """One entry directly, beside the queue."""
        body = {"data": data, "fn_index": entry["id"], "session_hash": session or new_session()}
        return self.post("run/predict", body)

    def join(self, entry: dict, data: list | dict, session: str | None = None) -> httpx.Response:
        """One entry into the queue; `data` are its inputs, or values for `filled`."""
        data = filled(self.app, entry, data) if isinstance(data, dict) else data
        body = {"data": data, "fn_index": entry["id"], "session_hash": session or self.session, "trigger_id": None}
        return self.post("queue/join", body)

    def read(self, session: str | None = None) -> list[dict]:
        """All messages of a session's stream, until it closes."""
        with self.client.stream("GET", "queue/data", params={"session_hash": session or self.session}) as stream:
            return [json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:")]

    def upload(self, name: str, content: bytes, **more: Any) -> httpx.Response:
        return self.client.post("upload", files={"files": (name, content)}, **more)


def file_data(path: str) -> dict:
    """An uploaded file as Gradio's page names it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": Path(path).name}


@cache
def config_of(url: str) -> dict:
    return httpx.get(f"{url}/config", timeout=120, verify=False).raise_for_status().json()


def entries(app: App) -> list[dict]:
    """Every entry of `demo.fns`."""
    return [entry for entry in config_of(app.url)["dependencies"] if entry["backend_fn"]]


def entry_of(app: App, name: str) -> dict:
    return next(entry for entry in entries(app) if entry["api_name"] == name)


def snapshot(folder: Path) -> dict[str, str]:
    """What lies below a folder: names and contents."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def filled(app: App, entry: dict, known: dict[str, Any]) -> list:
    """The inputs of an entry: what is known for a component's id on the page, else what the page shows at first."""
    parts = {part["id"]: part for part in config_of(app.url)["components"]}
    asked = [parts[number] for number in entry["inputs"]]
    first = [None if part["type"] == "state" else part["props"].get("value") for part in asked]
    return [known.get(part["props"].get("elem_id"), value) for part, value in zip(asked, first, strict=True)]


def on_the_board(model: str, columns: list[str], tokens: int) -> dict:
    """A comparison as the Compare tab sends it, to be filled in; `columns` are lines without a model."""
    board = [(strategy, dict(knob.split("=") for knob in knobs)) for strategy, *knobs in map(str.split, columns)]
    cards = [{"strategy": strategy, "knobs": knobs, "model": ""} for strategy, knobs in board]
    settings = {"compare-model": model, "compare-seed": 1, "compare-length": tokens}
    settings |= {"compare-dtype": "float32", "compare-raw": True}
    return {"prompt": "hi", "board": {"columns": cards}, **settings}


@contextmanager
def listening(visitor: Visitor, entry: dict, data: list | dict) -> Iterator[Iterator[dict]]:
    """One comparison of the page, as messages come; the socket is cut when the block ends."""
    visitor.join(entry, data).raise_for_status()
    with httpx.Client(headers=visitor.headers, timeout=120, verify=False) as client:
        url = f"{visitor.app.url}/gradio_api/queue/data?session_hash={visitor.session}"
        with client.stream("GET", url) as stream:
            yield (json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:"))


def until(messages: Iterator[dict], words: str) -> str:
    """Read on until a message holds the words; returns it as text."""
    for message in messages:
        if words in (text := json.dumps(message, ensure_ascii=False)):
            return text
    raise AssertionError(f"the stream ended without {words}")
