"""Compare in a real browser with the real engine behind it: heights stay, stopping stops, what is asked is answered."""

import json

import pytest
from playwright.sync_api import expect

from tests.tiny_model import make_tiny_model
from tests.ui.conftest import picture
from tests.ui.people import Visitor, entry_of, listening, on_the_board, until
from tests.ui.test_loop import close_toasts, open_tab

pytestmark = pytest.mark.browser
WHOLE = "node => node.scrollWidth <= node.clientWidth && node.scrollHeight <= node.clientHeight + 1"


@pytest.fixture
def cards(tab, patient_model):
    """Four new cards, of which nothing was asked yet."""
    open_tab(tab, "Compare")
    close_toasts(tab)
    tab.locator(".ts-presets").select_option("four")
    tab.locator(".ts-look").select_option("text")
    choose_model(tab, patient_model)
    return tab.locator(".ts-col")


def choose_model(tab, model):
    tab.locator("#compare-model input").fill(str(model))
    tab.locator("#compare-model input").press("Enter")


@pytest.mark.ci
def test_the_longest_title_of_a_strategy_is_read_whole(tab, cards):
    """Nothing of it is cut, neither at four cards a row (about 260 px each) nor on a phone; the keyboard reaches it."""
    card = cards.first
    title = card.locator(".ts-pick span")
    for width in (1280, 390):
        tab.set_viewport_size({"width": width, "height": 844})
        card.locator(".ts-strategy").select_option("nucleus")
        expect(title).to_have_text("Nucleus (top-p) sampling")
        assert title.evaluate(WHOLE)
        inner, outer = title.bounding_box(), card.locator(".ts-pick").bounding_box()
        assert outer["x"] <= inner["x"] and inner["x"] + inner["width"] <= outer["x"] + outer["width"]
        assert outer["y"] <= inner["y"] and inner["y"] + inner["height"] <= outer["y"] + outer["height"]
        card.locator(".ts-strategy").focus()
        assert card.locator(".ts-pick").evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
        tab.keyboard.press("Home")
        expect(title).to_have_text("Greedy")
        picture(tab, f"titles-{width}")


@pytest.mark.ci
def test_what_goes_on_from_another_choice_begins_as_it_says(tab, cards):
    """With the real engine: a column, another choice in it, and another one in what came of that."""
    while cards.count() > 1:
        cards.last.locator(".ts-close").click()
    tab.locator("#compare-length input").fill("6")
    tab.locator("#prompt textarea").fill("how to make tea")
    tab.locator("#compare-start").click()
    tab.locator(".ts-look").select_option("entropy")
    for card in range(2):
        cards.nth(card).locator(".ts-token").nth(2 + card).click()
        tab.locator(".ts-panel button.ts-tiprow:enabled").first.click()
        tab.locator(".ts-run").click()
        expect(cards.nth(card + 1).locator(".ts-token")).to_have_count(6)
    starts = [cards.nth(card).locator("input[name=start]").input_value().split(",") for card in (1, 2)]
    assert [len(start) for start in starts] == [3, 4] and starts[1][:3] == starts[0]
    texts = [cards.nth(card).locator(".ts-token").all_text_contents() for card in range(3)]
    assert texts[0][:2] == texts[1][:2] and texts[0][2] != texts[1][2]
    assert texts[1][:3] == texts[2][:3] and texts[1][3] != texts[2][3]
    picture(tab, "what-if")


@pytest.mark.ci
def test_a_sweep_that_cannot_be_says_why_and_stays_open(tab, cards):
    cards.first.locator(".ts-sweep").click()
    tab.locator(".ts-panel [name=values]").fill("1, 2")
    tab.locator(".ts-panel .ts-on").click()
    tab.get_by_text("3 to 12 different values, not 2").wait_for()
    expect(tab.locator(".ts-panel")).to_be_visible()
    tab.keyboard.press("Escape")
    expect(tab.locator(".ts-panel")).to_be_hidden()


def test_what_the_authors_set_becomes_a_column_when_asked_for(tab, cards, tmp_path):
    model = make_tiny_model(tmp_path)
    settings = {"do_sample": True, "top_p": 0.8, "top_k": 20, "min_new_tokens": 2}
    (model / "generation_config.json").write_text(json.dumps(settings))
    choose_model(tab, model)
    tab.locator(".ts-authors").click()
    expect(cards).to_have_count(5)
    expect(cards.last.locator(".ts-mark")).to_have_text("Model's default settings")
    expect(cards.last.locator(".ts-knobs > summary")).to_have_text("top_p 0.8 · temperature 1 · top_k 20")
    expect(tab.locator("#compare-status")).to_contain_text("min_new_tokens")


@pytest.mark.ci
def test_more_settings_are_sent_only_where_they_are_set(tab, cards):
    first = cards.first
    first.locator(".ts-knobs > summary").click()
    first.locator(".ts-more > summary").click()
    first.locator("input[name=stop]").fill('a "b|c d')
    first.locator("input[name=repetition_penalty]").fill("1.5")
    first.locator("input[name=repetition_penalty]").fill("")
    expect(first.locator(".ts-knobs > summary")).to_have_text('stop a "b|c d')
    tab.locator("#compare-length input").fill("4")
    tab.locator("#prompt textarea").fill("how to make tea")
    tab.locator("#compare-start").click()
    expect(first.locator("footer")).to_contain_text("reached")
    assert first.locator("optgroup").count() == 4
    expect(first.locator(".ts-about")).to_contain_text("Source: Lowerre 1976")


@pytest.mark.ci
def test_after_an_error_no_card_goes_on_writing(tab, cards):
    tab.locator(".ts-presets").select_option("added")
    tab.locator("#prompt textarea").fill("how to make tea")
    tab.locator("#compare-start").click()
    expect(tab.get_by_test_id("toast-text")).to_contain_text("needs a LoRA adapter")
    expect(tab.locator(".ts-writing")).to_have_count(0)
    expect(tab.locator("#compare-start")).to_be_enabled()


@pytest.mark.ci
def test_cards_keep_their_height_while_they_write_and_stop_when_told(tab, cards):
    tab.locator(".ts-presets").select_option("widths")
    tab.locator("#compare-length input").fill("8000")
    before = [card.bounding_box()["height"] for card in cards.all()]
    tab.locator("#prompt textarea").fill("how to make tea")
    tab.locator("#compare-start").click()
    tab.wait_for_function("document.querySelector('.ts-writing .ts-out')?.textContent.length > 20")
    assert [card.bounding_box()["height"] for card in cards.all()] == before
    tab.locator("#compare-stop").click()
    tab.locator(".ts-col footer").get_by_text("stopped").first.wait_for()
    assert [card.bounding_box()["height"] for card in cards.all()] == before
    picture(tab, "stopped")


@pytest.mark.ci
def test_who_comes_second_is_told_so_and_goes_on_when_the_first_has_left(tab, cards, app, patient_model):
    first, entry = Visitor(app), entry_of(app, "compare_run")
    with listening(first, entry, on_the_board(str(patient_model), ["greedy"], 8000)) as messages:
        until(messages, "is generating")
        tab.locator("#compare-length input").fill("5")
        tab.locator("#prompt textarea").fill("how to make tea")
        tab.locator("#compare-start").click()
        tab.locator("#compare-status").get_by_text("Comparisons of other visitors before yours: 1").wait_for()
    tab.locator("#compare-status").get_by_text("forward passes").wait_for()


def test_the_page_speaks_chinese_when_told_to(tab):
    tab.locator(".ts-language select").select_option("zh")
    tab.get_by_role("tab", name="微调", exact=True).click()
    tab.locator("#start").get_by_text("开始").wait_for()
    tab.locator("#run-state").get_by_text("运行").first.wait_for()
    picture(tab, "chinese")
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.wait_for_function("document.documentElement.scrollWidth <= 390")
    picture(tab, "narrow")
