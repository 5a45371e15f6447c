"""What the page keeps of a browser tab does not grow with what happens there."""

import uuid

import httpx
import pytest

from tests.ui.here import served


@pytest.fixture
def opened(workspace):
    """The page, served by this process: only from within can be seen what is kept."""
    with served() as page, httpx.Client(base_url=f"{page.url}/gradio_api/", timeout=None, trust_env=False) as client:
        yield page.demo, client


def entry(demo, name):
    return next(fn for fn in demo.config["dependencies"] if fn["api_name"] == name)


def ask(demo, client, session, name, data):
    """Let the page answer one event of the session."""
    body = {"data": data, "fn_index": entry(demo, name)["id"], "session_hash": session}
    return client.post("run/predict", json=body).raise_for_status().json()["data"]


def kept(demo, session):
    state = demo.app.state_holder.session_data[session]
    return sorted(state.blocks_config.blocks), sorted(state.config_values)


def test_a_tab_that_stays_open_keeps_as_many_components_as_the_page_has(opened):
    demo, client = opened
    session, page_has = uuid.uuid4().hex[:11], sorted(demo.default_config.blocks)
    for _ in range(5):
        ask(demo, client, session, "tick", [None, None])
    assert kept(demo, session) == (page_has, page_has)
