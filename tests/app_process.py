"""The app as a real child process, on this machine or as a simulated Space, and raw HTTP to its entries."""

import base64
import hashlib
import json
import os
import re
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import itsdangerous

ROOT = Path(__file__).parents[1]
CERTIFICATES = ssl.create_default_context()
"""Read once: httpx reads them anew for each client, which takes longer than a call."""
SECRET = "client-secret-of-the-test"
SPACE = {
    "SYSTEM": "spaces",
    "SPACE_ID": "someone/tunescope",
    "OAUTH_CLIENT_ID": "client-id-of-the-test",
    "OAUTH_CLIENT_SECRET": SECRET,
    "OAUTH_SCOPES": "openid profile read-repos gated-repos contribute-repos jobs write-discussions",
}


@dataclass
class App:
    """A running app: its address and its process."""

    url: str
    process: subprocess.Popen
    log: Path

    def config(self) -> dict:
        return httpx.get(f"{self.url}/config", timeout=60).raise_for_status().json()


@contextmanager
def running_app(folder: Path, environment: dict[str, str] | None = None) -> Iterator[App]:
    """Start `app.py` with its workspace in `folder`, wait for its line with the address, end it afterwards.

    The system picks its port: the first free one from 7860 on would be the same for two that start at once.
    """
    log = folder / "app.log"
    folder.mkdir(parents=True, exist_ok=True)
    own = {"TUNESCOPE_HOME": str(folder / "home"), "GRADIO_SERVER_PORT": "0", "PYTHONUNBUFFERED": "1"}
    env = {**os.environ, **own, **(environment or {})}
    with log.open("w") as out:
        python = env.get("TUNESCOPE_PYTHON") or sys.executable
        process = subprocess.Popen([python, "app.py"], cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield App(_address(process, log), process, log)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen, log: Path) -> str:
    while True:
        found = re.search(r"http://[\w.:\[\]]+:\d+", log.read_text())
        if found:
            return found.group().rstrip("/")
        if process.poll() is not None:
            raise RuntimeError(log.read_text())
        time.sleep(0.05)


def session_cookie(sub: str, token: str = "hf_token_of_the_test", name: str = "ada") -> dict[str, str]:
    """The header of a signed-in visitor. Gradio's session cookie is https-only, so a client would not send it here."""
    info = {
        "access_token": token,
        "scope": SPACE["OAUTH_SCOPES"],
        "expires_at": int(time.time()) + 3600,
        "userinfo": {"sub": sub, "name": name, "preferred_username": name, "profile": "", "picture": ""},
    }
    signer = itsdangerous.TimestampSigner(hashlib.sha256(f"{SECRET}-v4".encode()).hexdigest())
    value = signer.sign(base64.b64encode(json.dumps({"oauth_info": info}).encode())).decode()
    return {"cookie": f"session={value}"}


def call(app: App, dependency: dict, data: list, headers: dict[str, str] | None = None, session: str = "") -> dict:
    """Call one entry of the page over raw HTTP, through the queue, as a stranger's program would.

    Returns the closing message of the stream: {"msg", "success", "output": {...}}. Gradio takes a tenth of a second to
    make a session; many calls one after another may be those of one.
    """
    session = session or uuid.uuid4().hex[:11]
    body = {"data": data, "fn_index": dependency["id"], "session_hash": session, "trigger_id": None}
    with httpx.Client(
        base_url=f"{app.url}/gradio_api", headers=headers or {}, timeout=120, verify=CERTIFICATES
    ) as client:
        joined = client.post("/queue/join", json=body)
        if joined.status_code != 200:
            return {"msg": "refused", "success": False, "output": {"error": joined.text}}
        with client.stream("GET", "/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") in ("process_completed", "unexpected_error"):
                    return message
    raise RuntimeError(f"the stream of entry {dependency['id']} ended early")


def predict(
    app: App, dependency: dict, data: list, headers: dict[str, str] | None = None, session: str = ""
) -> httpx.Response:
    """Call one entry directly, beside the queue, in a session as `call` has it."""
    body = {"data": data, "fn_index": dependency["id"], "session_hash": session or uuid.uuid4().hex[:11]}
    url = f"{app.url}/gradio_api/run/predict"
    return httpx.post(url, json=body, headers=headers or {}, timeout=120, verify=CERTIFICATES)
