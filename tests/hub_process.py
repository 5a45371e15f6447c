"""The Hub stand-in as a child process, for tests whose app or shell runs in processes of its own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core import settings

ROOT = Path(__file__).parents[1]


@dataclass
class HubProcess:
    """Where it listens and who may write there. `environment` makes a child process use it with that user's token."""

    url: str
    user: str
    token: str
    environment: dict[str, str]


@contextmanager
def running_hub() -> Iterator[HubProcess]:
    """Start the stand-in on a free port; end it afterwards."""
    from tests.hub.standin import USER

    process = subprocess.Popen(
        [settings.python(), "-m", "tests.hub.standin"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        said = dict(part.split("=", 1) for part in process.stdout.readline().split())
        yield HubProcess(said["HF_ENDPOINT"], USER, said["HF_TOKEN"], {**said, "HF_HUB_OFFLINE": "0"})
    finally:
        process.terminate()
        process.wait(20)
