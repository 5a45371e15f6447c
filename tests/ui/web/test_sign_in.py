"""Signing in on a Space as a browser does: to the provider, back with a code, known until signing out."""

import secrets
from http.cookies import SimpleCookie

import httpx
import pytest

from tests.app_process import call
from tests.ui.people import entry_of


@pytest.fixture(autouse=True)
def person(provider):
    """Each test has a person of its own, who says yes at the provider."""
    provider.sub = secrets.token_hex(8)


class Browser:
    """Keeps cookies, https-only ones too, and follows no redirect by itself."""

    def __init__(self, app):
        self.app, self.cookies = app, {}

    @property
    def headers(self):
        return {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}

    def get(self, url):
        reply = httpx.get(httpx.URL(self.app.url).join(url), headers=self.headers, timeout=60)
        for line in reply.headers.get_list("set-cookie"):
            self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
        return reply

    def sign_in(self):
        asked = self.get("/login/huggingface")
        back = httpx.get(asked.headers["location"], timeout=60)
        return self.get(back.headers["location"])

    def example(self):
        """Try to import the example, which only who is signed in may."""
        entry = entry_of(self.app, "bring_example")
        return call(self.app, entry, [None] * len(entry["inputs"]), self.headers)


def test_who_signs_in_has_a_folder_by_their_sub_and_loses_their_rights_on_signing_out(space, provider):
    browser = Browser(space)
    assert not browser.example()["success"]
    assert browser.sign_in().headers["location"] == "/"
    assert browser.example()["success"]
    assert len(list((space.log.parent / "home" / provider.sub / "datasets").iterdir())) == 1
    browser.get("/logout")
    assert not browser.example()["success"]


def test_an_answer_that_nobody_asked_for_signs_nobody_in(space, provider):
    victim, attacker = Browser(space), Browser(space)
    asked = attacker.get("/login/huggingface")
    stolen = httpx.get(asked.headers["location"], timeout=60).headers["location"]
    assert "/login/huggingface" in victim.get(stolen).headers["location"]
    assert not victim.example()["success"]


def test_a_code_works_once(space, provider):
    first, second = Browser(space), Browser(space)
    back = httpx.get(first.get("/login/huggingface").headers["location"], timeout=60).headers["location"]
    second.cookies = dict(first.cookies)
    assert first.get(back).headers["location"] == "/" and first.example()["success"]
    assert second.get(back).status_code >= 400
    assert not second.example()["success"]
