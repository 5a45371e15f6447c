"""A model on the Hub stand-in for a simulated Space, where a model of this machine's disk cannot be named."""

import json
import os
import subprocess
from pathlib import Path

from tests.hub_process import HubProcess
from tests.tiny_model import make_tiny_model

UPLOAD = """import sys, huggingface_hub as hub
hub.create_repo(sys.argv[1], private=False, exist_ok=True)
hub.upload_folder(repo_id=sys.argv[1], folder_path=sys.argv[2])"""


def publish_endless_model(hub: HubProcess, folder: Path) -> str:
    """A tiny public model that never ends by itself; returns its name."""
    make_tiny_model(folder, context=8192)
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**settings, "eos_token_id": None}))
    name = f"{hub.user}/endless"
    subprocess.run([settings.python(), "-c", UPLOAD, name, folder], env={**os.environ, **hub.environment}, check=True)
    return name


def environment(hub: HubProcess, folder: Path) -> dict[str, str]:
    """What a Space needs to see that Hub, and no token of its own."""
    seen = {name: value for name, value in hub.environment.items() if name != "HF_TOKEN"}
    return {**seen, "HF_HOME": str(folder / "hf"), "TUNESCOPE_CACHE": str(folder / "cache")}
