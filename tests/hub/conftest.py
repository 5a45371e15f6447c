"""The fixture `hub`: a stand-in of the Hub that this process and its children talk to."""

import shutil
from pathlib import Path

import pytest

from core.hub import retries
from core.workspace import Owner
from finetune.runs.run import Run
from tests.hub.finished_run import BASE_ID
from tests.hub.standin import TOKEN, USER, HubStandIn


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A running HubStandIn with the user `tester` (and the organisation `acme`), set as `HF_ENDPOINT`.

    The client reads offline mode, endpoint and Xet into constants when it is imported: these are set as well, as
    they would be in a process started with this environment. Its waits between retries are made short.
    """
    stand_in = HubStandIn()
    stand_in.add_user(USER, organisations=("acme",), token=TOKEN)
    speak_to(stand_in, monkeypatch, tmp_path / "hf-home")
    yield stand_in
    stand_in.close()


def speak_to(stand_in, patch, folder):
    """Make this process, and those it starts, take the stand-in for the Hub; `folder` is the client's cache."""
    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _http

    patch.setenv("HF_ENDPOINT", stand_in.url)
    patch.setenv("HF_HUB_DISABLE_XET", "1")
    patch.setenv("HF_HOME", str(folder))
    patch.setenv("OMP_NUM_THREADS", "1")
    patch.delenv("HF_HUB_OFFLINE", raising=False)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "ENDPOINT", stand_in.url)
    template = stand_in.url + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    for module in (_http, file_download):
        patch.setattr(module, "time", _ShortWaits())
    patch.setattr(retries, "patience", retries.Patience(wait_scale=0.001))


class _ShortWaits:
    """The module `time` as the client's retries use it, a hundred times as fast."""

    def __getattr__(self, name: str) -> object:
        import time

        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        import time

        time.sleep(seconds / 100)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, tiny_model):
    """A workspace with a finished adapter run and a finished full run on the tiny model, to be copied."""
    from tests.hub.finished_run import make_finished_run

    home = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESCOPE_HOME", str(home))
        patch.setenv("TUNESCOPE_CACHE", str(home / "cache"))
        runs = {"lora": make_finished_run(Owner("local"), tiny_model)}
        runs["full"] = make_finished_run(Owner("local"), tiny_model, full=True)
    return runs


@pytest.fixture
def publisher(hub, workspace, monkeypatch):
    """The one person of the machine, with a token that the stand-in knows."""
    monkeypatch.setenv("TUNESCOPE_CACHE", str(workspace / "cache"))
    return Owner("local", TOKEN)


@pytest.fixture
def finished(publisher, hub, trained, tiny_model):
    """A finished adapter run in the publisher's workspace; its base lies on the stand-in."""
    hub.add_repo(BASE_ID, tiny_model)
    return copy_run(trained["lora"], publisher)


def copy_run(run: Run, owner: Owner) -> Run:
    """The same run in another workspace."""
    return Run(Path(shutil.copytree(run.folder, owner.runs / run.id)))


@pytest.fixture
def renter(hub, workspace, monkeypatch, tiny_model):
    """Somebody who rents machines: their base lies on the stand-in, private; jobs wait and never train."""
    from core.hub import reach as the_hub
    from finetune.launch.follow import api as job_api

    monkeypatch.setenv("TUNESCOPE_CACHE", str(workspace / "cache"))
    monkeypatch.setattr(job_api, "_known", {})
    the_hub.forget()
    hub.add_repo(BASE_ID, tiny_model, private=True)
    hub.jobs.hold.clear()
    return Owner("local", TOKEN)


@pytest.fixture
def recipe(tmp_path):
    """A config on the renter's base and a small file."""
    from tests.tiny.training import make_config, write_data

    return make_config(BASE_ID, write_data(tmp_path / "data.json"))
