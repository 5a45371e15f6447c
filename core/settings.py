"""The environment variables Tunescope reads, each once."""

import importlib.util
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
STANDIN = "smollm2-135m-instruct-q4_1"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def home() -> Path:
    """Return the workspace folder (`TUNESCOPE_HOME`, by default `tunescope-data` in the current folder)."""
    return Path(os.environ.get("TUNESCOPE_HOME") or "tunescope-data").expanduser().absolute()


def cache() -> Path:
    """Return the folder for converted models and fingerprints (`TUNESCOPE_CACHE`, by default `~/.cache/tunescope`)."""
    return Path(os.environ.get("TUNESCOPE_CACHE") or "~/.cache/tunescope").expanduser().absolute()


def python() -> str:
    """Return the Python that starts this project's own processes (`TUNESCOPE_PYTHON`, by default the running one)."""
    return os.environ.get("TUNESCOPE_PYTHON") or sys.executable


def on_space() -> bool:
    """Return whether this process runs on a Space, without local rights: either variable of a Hugging Face Space is
    enough."""
    return bool(os.environ.get("SPACE_ID")) or os.environ.get("SYSTEM") == "spaces"


def can_sign_in() -> bool:
    """Return whether sign-in with Hugging Face is real: on a Space, with the OAuth client's id and secret set.

    Elsewhere Gradio mounts a mocked login that makes everybody the same person.
    """
    space = bool(os.environ.get("SPACE_ID")) and os.environ.get("SYSTEM") == "spaces"
    return space and bool(os.environ.get("OAUTH_CLIENT_ID")) and bool(os.environ.get("OAUTH_CLIENT_SECRET"))


def zero_gpu() -> bool:
    """Return whether this is a ZeroGPU Space: it has a GPU only while a function of the package `spaces` runs."""
    enabled = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
    return enabled and importlib.util.find_spec("spaces") is not None


def own_hosts() -> set[str]:
    """Return the host names that browsers reach this app by: those of a Space (`SPACE_HOST`) or, behind a proxy, that
    of `GRADIO_ROOT_PATH`."""
    names = {host.strip() for host in os.environ.get("SPACE_HOST", "").split(",")}
    return (names | {urlsplit(os.environ.get("GRADIO_ROOT_PATH", "")).netloc}) - {""}


def hub_offline() -> bool:
    """Return whether the Hub is switched off (`HF_HUB_OFFLINE`)."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def backup() -> str:
    """Return where finished things are backed up (`TUNESCOPE_BACKUP`): a folder or
    `hf://datasets/<namespace>/<name>`."""
    return os.environ.get("TUNESCOPE_BACKUP", "").strip()


def take_backup_token() -> str:
    """Return the access token for the backup repository (`TUNESCOPE_BACKUP_TOKEN`) and remove it from the environment,
    so that no child inherits it."""
    return os.environ.pop("TUNESCOPE_BACKUP_TOKEN", "").strip()
