"""On a Space nobody without sign-in gets an answer from any entry of the page but Compare's."""

import pytest

from tests.app_process import SPACE, call, predict, running_app, session_cookie

REFUSAL = "Sign in with Hugging Face to do this"
SOMEBODY = session_cookie("5f1d2c3b4a")


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """The app as a child process that takes itself for a Space. Its OpenID provider is a dead loopback port."""
    provider = {"OPENID_PROVIDER_URL": "http://127.0.0.1:9"}
    with running_app(tmp_path_factory.mktemp("space"), {**SPACE, **provider}) as app:
        yield app


def _entries(app):
    return [entry for entry in app.config()["dependencies"] if entry["backend_fn"]]


def _compares(entry):
    """Compare's own entries, and Gradio's of the sign-in button, which says what stands on the button."""
    return (entry["api_name"] or "").startswith("compare") or entry["api_name"] == "_check_login_status"


def _nothing(entry):
    return [None] * len(entry["inputs"])


def _answered(message):
    return message["success"] and any(value is not None for value in message["output"].get("data", []))


def test_nobody_gets_an_answer_through_the_queue(space):
    entries = [entry for entry in _entries(space) if not _compares(entry)]
    assert len(entries) > 15
    said = {
        f"{entry['id']} {entry['api_name']}": call(space, entry, _nothing(entry), session="a-stranger")
        for entry in entries
    }
    assert {name: message for name, message in said.items() if message["success"]} == {}
    wrong = {
        name: message["output"]["error"] for name, message in said.items() if REFUSAL not in str(message["output"])
    }
    assert wrong == {}


def test_nobody_gets_an_answer_beside_the_queue(space):
    for entry in _entries(space):
        if not _compares(entry):
            reply = predict(space, entry, _nothing(entry), session="another-stranger")
            assert reply.status_code != 200, (entry["api_name"], reply.text)


def test_the_sign_in_button_tells_a_stranger_its_own_label_alone(space):
    button = next(entry for entry in _entries(space) if entry["api_name"] == "_check_login_status")
    said = call(space, button, _nothing(button))["output"]["data"]
    assert [value if isinstance(value, str) else value.get("value") for value in said] == ["Sign in with Hugging Face"]


def test_who_is_signed_in_gets_an_answer(space):
    """The same entry that refuses a stranger answers a visitor whose session Gradio knows."""
    entry = next(entry for entry in _entries(space) if entry["api_name"] == "runs_line")
    assert predict(space, entry, _nothing(entry)).status_code != 200
    assert predict(space, entry, _nothing(entry), SOMEBODY).status_code == 200
