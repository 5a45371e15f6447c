"""The fixture `hub`: a stand-in of the Hub that this process and its children talk to."""

import pytest

from tests.hub.standin import TOKEN, USER, HubStandIn


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A running HubStandIn with the user `tester` (and the organisation `acme`), set as `HF_ENDPOINT`.

    The client reads offline mode, endpoint and Xet into constants when it is imported: these are set as well, as
    they would be in a process started with this environment. Its waits between retries are made short.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    stand_in = HubStandIn()
    stand_in.add_user(USER, organisations=("acme",), token=TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", stand_in.url)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", stand_in.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", stand_in.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf-home" / "hub"))
    monkeypatch.setattr(_http, "time", _ShortWaits())
    yield stand_in
    stand_in.close()


class _ShortWaits:
    """The module `time` as the client's retries use it, a hundred times as fast."""

    def __getattr__(self, name: str) -> object:
        import time

        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        import time

        time.sleep(seconds / 100)
