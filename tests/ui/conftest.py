"""One running page for all tests of the page, one Space, one Hub behind both, and a real Chromium in front of them.

`TUNESCOPE_PICTURES=1` keeps screenshots of what the tests see in `tests/screenshots`, for people to look at; of a test
that fails one is kept in any case.
"""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.app_process import running_app
from tests.tiny_model import make_tiny_model
from ui.web.language import COOKIE

if TYPE_CHECKING:
    from playwright.sync_api import Page

HERE = Path(__file__).parent
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
WINDOW = {"width": 1280, "height": 800}
FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """For pytest-xdist: what uses the page is one worker's, what uses the Space another's, so that each is started
    once; of what is left, each file stays together, for it may have an app or a trained run of its own."""
    for item in items:
        if item.path.is_relative_to(HERE) and item.get_closest_marker("xdist_group") is None:
            used = set(item.fixturenames)
            group = "space" if "space" in used else "page" if used & {"app", "chromium"} else item.path.stem
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Keep what the page looked like when a test failed."""
    report = yield
    page = getattr(item, "funcargs", {}).get("window")
    if report.failed and call.when == "call" and page is not None:
        item.stash[FAILED] = True
        with suppress(Exception):
            _shoot(page, item.name)
    return report


@pytest.fixture(scope="session")
def hub_process():
    """The Hub stand-in, served by this process, with a user who may write; `.person(name)` is another one there."""
    from tests.ui.hub_models import running_hub_here

    with running_hub_here() as hub:
        yield hub


@pytest.fixture(scope="session")
def app(tmp_path_factory, hub_process, way_out):
    """The page as a process, with a Hub stand-in behind it and a person who is logged in there.

    It takes ten to twenty seconds to start, in which its first test waits. Gradio's analytics are asked for from
    outside, and its way out is watched (see `way_out`).
    """
    folder = tmp_path_factory.mktemp("page")
    quick = {"OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8", "HF_HOME": str(folder / "hf")}
    quick |= {"TUNESCOPE_CACHE": str(folder / "cache"), "GRADIO_ANALYTICS_ENABLED": "True"}
    with running_app(folder, {**hub_process.environment, **quick, **way_out.environment}) as running:
        yield running


@pytest.fixture(scope="session")
def way_out():
    """What a process would send to other machines goes to `.url`; `.seen` has the first bytes of each connection."""
    from tests.ui.way_out import watched

    with watched() as way:
        yield way


@pytest.fixture(scope="session")
def space(tmp_path_factory, hub_process, provider):
    """The page as a simulated Space with the Hub stand-in behind it: a `.model` is there, and a `.user` with `.token`.

    Who signs in by themselves does so at `provider`. The user is another one than the page's, for jobs come to every
    app of the same person.
    """
    from tests.ui.hub_models import add_endless_model, environment
    from tests.ui.people import running_space

    folder = tmp_path_factory.mktemp("space")
    model, visitor = add_endless_model(hub_process, folder / "endless"), hub_process.person("visitor")
    more = {"TUNESCOPE_LIMIT_QUEUE": "4", "OPENID_PROVIDER_URL": provider.url}
    with running_space(folder, environment(hub_process, folder) | more) as running:
        running.model, running.user, running.token = model, visitor.user, visitor.token
        yield running


@pytest.fixture(scope="session")
def provider():
    """Where people sign in to the Space."""
    from tests.openid_provider import running_provider

    with running_provider() as running:
        yield running


@pytest.fixture(scope="session")
def patient_model(tmp_path_factory):
    """The tiny model with room for thousands of tokens, so that there is time to stop it. Do not write into it."""
    return make_tiny_model(tmp_path_factory.mktemp("patient"), context=8192)


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


@pytest.fixture(scope="session")
def profile(chromium):
    """The profile that all windows share: what the page loads is loaded once. English, and without cookies."""
    context = chromium.new_context(viewport=WINDOW, locale="en-US")
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@dataclass
class Held:
    """The one browser tab that tests use in turn, the module that used it last, the module for which it shows the page,
    and errors of its scripts."""

    page: "Page | None" = None
    user: str = ""
    module: str = ""
    errors: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def held():
    return Held()


@pytest.fixture
def window(profile, held, request):
    """The browser tab, 1280 x 800, wherever it is, without cookies of another module's tests. Errors on a page's own
    account fail the test."""
    if held.page is None:
        held.page, held.module = profile.new_page(), ""
        held.page.on("pageerror", lambda error: held.errors.append(str(error)))
    page = held.page
    if held.user != request.module.__name__:
        page.context.clear_cookies()
        held.user = request.module.__name__
    page.set_viewport_size(WINDOW)
    yield page
    broken, held.errors = held.errors, []
    if broken or request.node.stash.get(FAILED, False):
        page.close()
        held.page = None
    else:
        page.unroute_all()
        page.emulate_media(color_scheme="null")
    assert broken == []


@pytest.fixture
def tab(window, held, app, request):
    """The browser tab with the page open. It is opened anew for each module, whose tests go on from any state that
    they leave each other; who fails, goes elsewhere or speaks another language leaves none."""
    module, cookies = request.module.__name__, window.context.cookies(app.url)
    if COOKIE in [cookie["name"] for cookie in cookies] or held.module != module or window.url.rstrip("/") != app.url:
        window.context.clear_cookies()
        window.goto(app.url)
        window.wait_for_selector(".ts-name")
        held.module = module
    return window


def picture(page, name: str) -> None:
    """Keep a screenshot for people to look at, where they asked for it."""
    if os.environ.get("TUNESCOPE_PICTURES"):
        _shoot(page, name)


def _shoot(page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name.replace('/', '-')}.png", full_page=True)
