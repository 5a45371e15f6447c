"""The one handler: it finds the owner, speaks their language and turns every error into words."""

import re
from types import SimpleNamespace

import gradio as gr
import pytest

from core.errors import UserError
from core.words import current, say
from core.workspace import Owner
from ui.web.handler import ANONYMOUS, Caller, handler
from ui.web.visitor import Visitor


def request(accept="en", cookie=None):
    headers = {"accept-language": accept} | ({"cookie": cookie} if cookie else {})
    return SimpleNamespace(headers=headers, session_hash="tab")


def profile(sub="5f1d2c3b4a"):
    return gr.OAuthProfile({"sub": sub, "name": "Ada", "preferred_username": "ada", "profile": "", "picture": ""})


def token():
    return gr.OAuthToken("hf_of_ada", "openid", 4_000_000_000)


@handler()
def who(caller) -> str:
    return f"{caller.owner.key} {caller.owner.token} {current()}"


@handler(open_to_anyone=True)
def anyone(caller) -> str:
    return f"{caller.owner.key} {caller.owner.token}"


@handler()
def wrong(caller, value: str) -> None:
    raise UserError("core.reference", value=value)


@handler()
def broken(caller) -> None:
    raise ValueError("hf_secret of somebody")


@handler()
def counting(caller):
    for number in range(3):
        yield f"{number} {current()} {say('page.data')}"


@pytest.fixture
def space(monkeypatch):
    for name, value in {
        "SYSTEM": "spaces",
        "SPACE_ID": "a/b",
        "OAUTH_CLIENT_ID": "i",
        "OAUTH_CLIENT_SECRET": "s",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_on_a_laptop_it_is_the_one_person_there():
    assert who(request("zh-CN"), None, None).startswith("local ")
    assert who(request("zh-CN"), None, None).endswith(" zh")


def test_a_sign_in_on_a_laptop_counts_for_nothing():
    assert who(request(), profile(), token()).startswith("local ")


def test_on_a_space_it_is_who_signed_in(space):
    assert who(request(), profile(), token()) == "5f1d2c3b4a hf_of_ada en"


def test_on_a_space_nobody_is_let_in_without(space):
    with pytest.raises(gr.Error, match="Sign in with Hugging Face to do this"):
        who(request(), None, None)
    assert anyone(request(), None, None) == "anonymous False"


@pytest.mark.parametrize("lacking", ["SYSTEM", "SPACE_ID", "OAUTH_CLIENT_SECRET"])
def test_half_a_space_lets_nobody_in(space, lacking):
    space.delenv(lacking)
    with pytest.raises(gr.Error, match="Sign in with Hugging Face to do this"):
        who(request(), profile(), token())


def test_mistakes_become_sentences_without_markup():
    with pytest.raises(gr.Error) as told:
        wrong(request(), None, None, "<b>x</b>")
    assert "&lt;b&gt;x" in told.value.message and "<b>" not in told.value.message


def test_bugs_become_a_number_and_go_to_the_log(caplog):
    with pytest.raises(gr.Error) as told:
        broken(request(), None, None)
    assert "hf_secret" not in told.value.message
    number = re.search(r"Error id (\w+) \(see the log\)", told.value.message)[1]
    assert number in caplog.text and "ValueError" in caplog.text


def test_bugs_come_through_when_tests_ask_for_them(monkeypatch):
    monkeypatch.setenv("TUNESCOPE_RERAISE", "1")
    with pytest.raises(ValueError):
        broken(request(), None, None)


def test_a_stream_keeps_its_language_from_item_to_item():
    stream = counting(request("zh"), None, None)
    assert [next(stream), current(), *stream] == ["0 zh 数据", "en", "1 zh 数据", "2 zh 数据"]


def test_nobody_can_wait_in_anothers_line_by_naming_a_tab_or_a_cookie_like_them():
    name = "A" * 22
    known = Caller(Owner(name), "en", "tab")
    strange = Caller(ANONYMOUS, "en", "tab", Visitor(f"stranger {name}", "", cookie=name))
    nameless = Caller(ANONYMOUS, "en", name)
    assert len({known.line, strange.line, nameless.line}) == 3
