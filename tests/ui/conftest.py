"""One running page for all tests of the page, and a real Chromium in front of it."""

import os
import shutil
from pathlib import Path

import pytest

from tests.app_process import running_app

INSTALL = "no Chromium here: apt-get install chromium"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCREENSHOTS = Path(__file__).parents[1] / "screenshots"
PATIENCE = 120_000


@pytest.fixture(scope="session")
def app(tmp_path_factory, hub_process):
    """The page as a process, with a Hub stand-in behind it and a person who is logged in there."""
    folder = tmp_path_factory.mktemp("page")
    quick = {"OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8", "HF_HOME": str(folder / "hf")}
    quick["TUNESCOPE_CACHE"] = str(folder / "cache")
    with running_app(folder, {**hub_process.environment, **quick}) as running:
        yield running


@pytest.fixture(scope="session")
def space(tmp_path_factory, hub_process):
    """The page as a simulated Space with the Hub stand-in behind it: `.model` is there, `.token` is known there."""
    from tests.ui.hub_models import environment, publish_endless_model
    from tests.ui.people import running_space

    folder = tmp_path_factory.mktemp("space")
    model = publish_endless_model(hub_process, folder / "endless")
    with running_space(folder, environment(hub_process, folder) | {"TUNESCOPE_LIMIT_QUEUE": "4"}) as running:
        running.model, running.token = model, hub_process.token
        yield running


@pytest.fixture(scope="session")
def chromium():
    """A started Chromium. Where none is installed the test is skipped; with TUNESCOPE_REQUIRE_BROWSER it fails."""
    from playwright.sync_api import expect, sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        if os.environ.get("TUNESCOPE_REQUIRE_BROWSER"):
            pytest.fail(INSTALL)
        pytest.skip(INSTALL)
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium, app):
    """A browser tab with the page open, 1280 x 800, in English. Errors on the page's own account fail the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, locale="en-US")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(app.url)
    page.wait_for_selector(".ts-name")
    yield page
    picture(page, "last")
    context.close()
    assert broken == []


def picture(page, name: str) -> None:
    """Keep a screenshot for people to look at."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
