"""The Hub behind the tests of the page, and a model on it for a simulated Space, where a model of this machine's disk
cannot be named."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core import settings
from tests.hub.standin import TOKEN, USER, HubStandIn
from tests.hub_process import HubProcess
from tests.tiny_model import make_tiny_model

UPLOAD = """import sys, huggingface_hub as hub
hub.create_repo(sys.argv[1], private=False, exist_ok=True)
hub.upload_folder(repo_id=sys.argv[1], folder_path=sys.argv[2])"""


@dataclass
class HubHere(HubProcess):
    """A Hub that this process serves: what is to lie on it is put there at once."""

    stand_in: HubStandIn

    def person(self, name: str) -> "HubHere":
        """The same Hub for another user; jobs and repositories are each one's own."""
        return _of(self.stand_in, name, self.stand_in.add_user(name))

    def add_model(self, name: str, folder: Path) -> str:
        """Let a public model of this user lie there; returns its whole name."""
        repo_id = f"{self.user}/{name}"
        self.stand_in.add_repo(repo_id, folder)
        return repo_id


def _of(stand_in: HubStandIn, user: str, token: str) -> HubHere:
    said = {"HF_ENDPOINT": stand_in.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"}
    return HubHere(stand_in.url, user, token, said, stand_in)


@contextmanager
def running_hub_here() -> Iterator[HubHere]:
    """Serve the stand-in from this process."""
    stand_in = HubStandIn()
    try:
        yield _of(stand_in, USER, stand_in.add_user(USER, organisations=("acme",), token=TOKEN))
    finally:
        stand_in.close()


def make_endless_model(folder: Path) -> Path:
    """A tiny model that never ends by itself, with room for thousands of tokens."""
    make_tiny_model(folder, context=8192)
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**settings, "eos_token_id": None}))
    return folder


def add_endless_model(hub: HubHere, folder: Path) -> str:
    """That model on a Hub that this process serves; returns its name."""
    return hub.add_model("endless", make_endless_model(folder))


def publish_endless_model(hub: HubProcess, folder: Path) -> str:
    """The same, sent to a Hub that is a process of its own."""
    make_endless_model(folder)
    name = f"{hub.user}/endless"
    subprocess.run([settings.python(), "-c", UPLOAD, name, folder], env={**os.environ, **hub.environment}, check=True)
    return name


def environment(hub: HubProcess, folder: Path) -> dict[str, str]:
    """What a Space needs to see that Hub, and no token of its own."""
    seen = {name: value for name, value in hub.environment.items() if name != "HF_TOKEN"}
    return {**seen, "HF_HOME": str(folder / "hf"), "TUNESCOPE_CACHE": str(folder / "cache")}
