"""The Publish tab takes texts of the tab's last comparison into the card, or says why not, in a real browser."""

import shutil

import pytest
from playwright.sync_api import expect

from core.workspace import Owner
from tests.hub.finished_run import make_finished_run
from tests.tiny_model import make_tiny_tokenizer
from tests.ui.compare.test_seeing import MARKUP, ask_for, column
from tests.ui.conftest import picture
from tests.ui.test_loop import on_the_hub, open_tab

pytestmark = pytest.mark.browser
PROMPT = "Say <b>tea</b> [now](https://evil.example):"


@pytest.fixture
def finished(app, tiny_model):
    """A finished run in the page's workspace, which is deleted afterwards."""
    folder = app.log.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESCOPE_HOME", str(folder / "home"))
        patch.setenv("TUNESCOPE_CACHE", str(folder / "cache"))
        run = make_finished_run(Owner("local"), tiny_model, base_text=str(tiny_model))
    yield run
    shutil.rmtree(run.folder, ignore_errors=True)


def compare(tab, model, *columns):
    """Compare, and come back when it is seen: the one before had another number of columns."""
    tab.unroute_all()
    ask_for(tab, list(columns))
    open_tab(tab, "Compare")
    tab.locator("#compare-model input").fill(str(model))
    tab.locator("#compare-model input").press("Enter")
    tab.locator("#compare-length input").fill("60")
    tab.locator("#prompt textarea").fill(PROMPT)
    with tab.expect_response("**/queue/join*"):
        tab.locator("#compare-start").click()
    expect(tab.locator("#summary tbody tr")).to_have_count(len(columns))
    tab.unroute_all()


def look(tab):
    tab.locator("#publish-look").click()


def refused(tab, *parts):
    look(tab)
    for part in parts:
        expect(tab.get_by_test_id("toast-text").last).to_contain_text(part)
    expect(tab.locator("#publish-plan")).not_to_contain_text("README.md")
    tab.get_by_test_id("toast-close").last.click()
    expect(tab.get_by_test_id("toast-text")).to_have_count(0)


def push(tab):
    """Send it, and wait for the end of the verification."""
    tab.locator("#publish-push").click()
    tab.locator("#published a").first.wait_for()
    expect(tab.locator("#publish-stop")).to_be_hidden()


@pytest.mark.ci
def test_the_card_shows_what_the_run_wrote_in_the_last_comparison(tab, finished, tiny_model, hub_process):
    """Slow: three comparisons and a verified push."""
    open_tab(tab, "Publish")
    tab.locator("#publish-run input").click()
    tab.get_by_role("option", name=finished.id).click()
    tab.locator("#publish-repo input, #publish-repo textarea").first.fill(f"{hub_process.user}/with-texts")
    tab.locator("#publish-samples input").check()
    refused(tab, "This browser tab has no comparison", finished.id)

    compare(tab, tiny_model, column("greedy"))
    open_tab(tab, "Publish")
    refused(tab, "No column in the last comparison used the result of run", "only its base model")

    start = ",".join(map(str, make_tiny_tokenizer()(MARKUP)["input_ids"]))
    mine, base = column("nucleus", seed=3, start=start), column("greedy", start=start) | {"model": "base"}
    compare(tab, finished.id, mine, base)
    open_tab(tab, "Publish")
    look(tab)
    card = tab.locator("#publish-card")
    expect(card).to_contain_text("nucleus top_p=0.9 temperature=1.0")
    expect(card).to_contain_text(", base model:")
    _about_the_base, prompt, written, by_the_base = card.locator("blockquote").all()
    expect(prompt).to_have_text(PROMPT)
    for text in (written, by_the_base):
        expect(text).to_contain_text(MARKUP)
    assert card.locator("blockquote :is(img, b, a)").count() == 0
    card.get_by_text("Prompt:", exact=True).scroll_into_view_if_needed()
    picture(tab, "publish-samples")

    compare(tab, tiny_model, column("greedy"))
    open_tab(tab, "Publish")
    push(tab)
    said = on_the_hub(hub_process, "with-texts/resolve/main/README.md")
    assert "&lt;img src\\=x onerror\\=alert\\(1\\)&gt;" in said and "**greedy" in said and "> Say &lt;b&gt;tea" in said


@pytest.mark.ci
def test_a_kind_whose_card_shows_no_texts_does_not_ask_for_them(tab, finished):
    open_tab(tab, "Publish")
    expect(tab.locator("#publish-samples")).to_be_visible()
    for kind, asked in (("Dataset", False), ("GGUF for llama.cpp", True), ("Demo Space", False), ("Adapter", True)):
        tab.locator("#publish-kind").get_by_label(kind).check()
        expect(tab.locator("#publish-samples")).to_be_visible(visible=asked)


def test_of_a_run_that_was_deleted_meanwhile_the_tab_says_so(tab, finished):
    open_tab(tab, "Data")
    open_tab(tab, "Publish")
    tab.locator("#publish-run input").click()
    tab.get_by_role("option", name=finished.id).click()
    shutil.rmtree(finished.folder)
    tab.locator("#publish-kind").get_by_label("GGUF for llama.cpp").check()
    expect(tab.locator("#published")).to_contain_text(f'Run "{finished.id}" was not found')
