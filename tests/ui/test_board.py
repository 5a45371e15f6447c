"""The cards of Compare in a real browser: text stays text, heights stay, stopping stops."""

import pytest

from tests.tiny_model import make_tiny_model
from tests.ui.conftest import picture
from tests.ui.test_loop import MARKUP, open_tab

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def patient_model(tmp_path_factory):
    """The tiny model with room for thousands of tokens, so that there is time to stop it."""
    return make_tiny_model(tmp_path_factory.mktemp("patient"), context=8192)


@pytest.fixture
def cards(tab, patient_model):
    open_tab(tab, "Compare")
    tab.locator(".ts-col").first.wait_for()
    tab.locator("#compare-model input").fill(str(patient_model))
    tab.locator("#compare-model input").press("Enter")
    return tab.locator(".ts-col")


def test_what_a_model_writes_is_text(tab, cards):
    column = {"firm": MARKUP, "draft": MARKUP, "writing": True, "figures": [[MARKUP, MARKUP]], "error": None}
    tab.evaluate("update => window.tunescopeBoard.show(update)", {"run": -1, "columns": [column]})
    assert cards.first.locator(".ts-out").text_content() == MARKUP * 2
    done = column | {"tokens": [[MARKUP, 0.5, [[MARKUP, 0.5]]]], "writing": False}
    tab.evaluate("update => window.tunescopeBoard.show(update)", {"run": -1, "columns": [done]})
    tab.get_by_role("button", name="Token view").click()
    cards.first.locator(".ts-token").hover()
    assert MARKUP in cards.first.locator(".ts-token").text_content()
    assert tab.locator("img[src='x']").count() == 0


def test_columns_are_added_doubled_and_removed_up_to_twelve(tab, cards):
    cards.first.locator(".ts-strategy").select_option("beam")
    cards.first.locator("summary").click()
    cards.first.locator("input[type=number]").first.fill("3")
    cards.first.locator(".ts-copy").click()
    assert cards.nth(1).locator("summary").text_content().startswith("num_beams 3")
    while tab.locator(".ts-add").is_enabled():
        tab.locator(".ts-add").click()
    assert cards.count() == 12
    while cards.count() > 1:
        cards.last.locator(".ts-close").click()
    assert cards.first.locator(".ts-close").is_disabled()


def test_cards_keep_their_height_while_they_write_and_stop_when_told(tab, cards):
    tab.locator(".ts-presets").select_option("widths")
    tab.locator("#compare-length input").fill("8000")
    before = [card.locator(".ts-out").bounding_box()["height"] for card in cards.all()]
    tab.locator("#prompt textarea").fill("how to make tea")
    tab.locator("#compare-start").click()
    tab.wait_for_function("document.querySelector('.ts-writing .ts-out')?.textContent.length > 20")
    assert [card.locator(".ts-out").bounding_box()["height"] for card in cards.all()] == before
    tab.locator("#compare-stop").click()
    tab.locator(".ts-col footer").get_by_text("stopped").first.wait_for()
    picture(tab, "stopped")


def test_who_comes_second_is_told_so_and_goes_on_when_the_first_has_left(tab, cards, chromium, app, patient_model):
    guest = chromium.new_context(locale="en-US")
    first = guest.new_page()
    first.goto(app.url)
    ask(first, patient_model, "8000")
    first.wait_for_function("document.querySelector('.ts-writing .ts-out')?.textContent.length > 20")
    ask(tab, patient_model, "5")
    tab.locator("#compare-status").get_by_text("comparisons of others before this one: 1").wait_for()
    guest.close()
    tab.locator("#compare-status").get_by_text("forward passes").wait_for()


def ask(page, model, length):
    open_tab(page, "Compare")
    page.locator("#compare-model input").fill(str(model))
    page.locator("#compare-model input").press("Enter")
    page.locator("#compare-length input").fill(length)
    page.locator("#prompt textarea").fill("how to make tea")
    page.locator("#compare-start").click()


def test_the_page_speaks_chinese_when_told_to(tab):
    tab.locator(".ts-language select").select_option("zh")
    tab.get_by_role("tab", name="微调", exact=True).click()
    tab.locator("#start").get_by_text("开始").wait_for()
    tab.locator("#run-state").get_by_text("运行").first.wait_for()
    picture(tab, "chinese")
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.wait_for_function("document.documentElement.scrollWidth <= 390")
    picture(tab, "narrow")
