"""Fixtures for all tests: a workspace of one's own, no Hub, one tiny model."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.pop("HF_TOKEN", None)
# Tiny models are quickest on one thread, and sleeping threads leave the cores to the many child processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from core.runtime import no_bar_monitors
from tests.tiny_model import make_tiny_model
from tests.warm.start import VARIABLES, WarmPython, start_cold

no_bar_monitors()
HERE = Path(__file__).parent


def pytest_configure(config):
    """Start the warm Python once, unless this is a worker of a session that has one."""
    if VARIABLES[0] not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="warm-"))
        config.add_cleanup(lambda: shutil.rmtree(folder))
        config.add_cleanup(WarmPython(folder).end)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Group tests for pytest-xdist: a file's tests stay together, because they may share what is costly to make. The
    largest groups, those of the page, come first, so that both workers end at about the same time. Of a test that is a
    matrix, all cases but the first are CI's."""
    items.sort(key=lambda item: "ui" not in item.path.relative_to(HERE).parts[:1])
    begun = set()
    for item in items:
        if item.get_closest_marker("matrix") is not None:
            test = item.nodeid.partition("[")[0]
            if test in begun:
                item.add_marker(pytest.mark.ci)
            begun.add(test)
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    """An empty workspace and an empty cache for each test; returns the workspace's folder."""
    monkeypatch.setenv("TUNESCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TUNESCOPE_CACHE", str(tmp_path / "cache"))
    for name in ("SPACE_ID", "SYSTEM", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "TUNESCOPE_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


@pytest.fixture
def cold(monkeypatch):
    """Child processes start as they do for users: a new Python each, which imports everything itself."""
    start_cold(monkeypatch)


@pytest.fixture
def owner(workspace):
    from core.workspace import Owner

    return Owner("local")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """The folder of a tiny random model (see tests/tiny_model.py). Do not write into it."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def hub_process():
    """A Hub stand-in as a process of its own, with a user who may write: `.user`, `.token`, `.environment`."""
    from tests.hub_process import running_hub

    with running_hub() as hub:
        yield hub
