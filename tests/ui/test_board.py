"""The cards of Compare in a real browser: text stays text, heights stay, stopping stops."""

import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from inference.record import request_of
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


def written(text, **more):
    return {"firm": text, "draft": "", "writing": False, "figures": [], "error": None, **more}


def packed(pieces, tokens):
    return json.dumps({"pieces": pieces, "tokens": tokens})


THREE = packed(
    {"1": "Once", "2": " upon", "3": "\n\n", "4": " more"},
    [
        [1, 0.95, 1, 0.2, 1, 1, [1, 4], [0.95, 0.05], [1, 0]],
        [2, 0.25, 2, 1.386, 0.3, 12, [4, 2], [0.5, 0.25], [0.7, 0.3]],
        [3, 0.002, 300, 3.0, 0.01, 12, [4, 1], [0.9, 0.01], [0.99, 0]],
    ],
)


@pytest.fixture
def tokens(tab, cards):
    """The first card with three tokens of a nucleus column, as rank colours."""
    cards.first.locator(".ts-strategy").select_option("nucleus")
    show(tab, {"run": -1, "packed": [THREE], "columns": [written("Once upon")]})
    tab.locator(".ts-look").select_option("rank")
    return cards.first.locator(".ts-token")


def show(tab, update):
    tab.evaluate("update => window.tunescopeBoard.show(update)", update)


def linked(tab):
    """What the page asks for, as its link tells it."""
    tab.locator("#prompt textarea").fill("tea")
    tab.locator("#compare-link").click()
    made = tab.locator("#compare-link-made textarea, #compare-link-made input").first
    expect(made).to_have_value(re.compile("c=."))
    return request_of(parse_qs(urlsplit(made.input_value()).query)["c"][0])


def test_what_a_model_writes_is_text(tab, cards):
    column = written(MARKUP, draft=MARKUP, writing=True, figures=[[MARKUP, MARKUP]])
    show(tab, {"run": -1, "columns": [column]})
    expect(cards.first.locator(".ts-out")).to_have_text(MARKUP * 2)
    show(tab, {"run": -1, "columns": [column | {"firm": MARKUP + " and more", "draft": ""}]})
    expect(cards.first.locator(".ts-out")).to_have_text(MARKUP + " and more")
    tokens = packed({"1": MARKUP}, [[1, 0.5, 1, 1, 0.5, 1, [1], [0.5], [0.5]]])
    done = written(MARKUP, notes=[MARKUP], others=[["-1", MARKUP], ["-2", MARKUP]])
    show(tab, {"run": -1, "columns": [done], "packed": [tokens]})
    tab.locator(".ts-look").select_option("surprise")
    cards.first.locator(".ts-token").hover()
    assert MARKUP in cards.first.locator(".ts-token").text_content()
    assert MARKUP in tab.locator(".ts-tip:not(.ts-panel)").text_content()
    cards.first.locator(".ts-aside summary").click()
    expect(cards.first.locator(".ts-others li")).to_have_count(2)
    cards.first.locator(".ts-token").click()
    expect(tab.locator(".ts-panel")).to_contain_text(MARKUP)
    assert tab.locator("img[src='x']").count() == 0


def test_long_text_that_grows_stays_whole(tab, cards):
    """Paragraphs become blocks while it streams; not a letter is lost or doubled, and no line break is added."""
    paragraph = "word " * 60 + "\n\n"
    text = "".join(f"{number} {paragraph}" for number in range(12)) + "the end"
    column = written("", writing=True)
    for size in [*range(0, len(text), 37), len(text)]:
        show(tab, {"run": -1, "columns": [column | {"firm": text[:size]}]})
    box = cards.first.locator(".ts-out")
    expect(box).to_contain_text("the end")
    assert box.text_content() == text
    streamed = box.evaluate("box => box.scrollHeight")
    assert box.locator(".ts-firm > div").count() > 3
    box.evaluate("(box, text) => box.querySelector('.ts-firm').replaceChildren(text)", text)
    assert box.evaluate("box => box.scrollHeight") == streamed


def test_tokens_are_coloured_by_a_scale_that_says_its_numbers(tab, tokens):
    shades = [re.search(r"ts-s(\d)", token.get_attribute("class")).group(1) for token in tokens.all()]
    assert shades == ["0", "1", "5"]
    expect(tab.locator(".ts-swatch")).to_have_text(["1", "2", "3–5", "6–20", "21–100", "> 100"])
    assert tokens.nth(2).text_content() == "⏎⏎\n"
    tab.locator(".ts-look").select_option("probability")
    expect(tab.locator(".ts-swatch").first).to_have_text("≥ 90 %")
    tab.locator(".ts-look").select_option("text")
    expect(tab.locator(".ts-scale")).to_be_hidden()
    expect(tokens).to_have_count(0)


def test_a_token_tells_what_stood_in_its_place_before_and_after_the_processors(tab, tokens):
    tokens.nth(2).hover()
    tip = tab.locator(".ts-tip:not(.ts-panel)")
    expect(tip.locator(".ts-tipfacts")).to_contain_text(
        "rank 300 · Entropy 4.33 bits · Surprise 8.97 bits · 12 tokens kept"
    )
    rows = [row.locator(":scope > span:not(.ts-bars)").all_text_contents() for row in tip.locator(".ts-tiprow").all()]
    assert rows[1:] == [["90 %", "99 %"], ["1.0 %", "cut"], ["0.20 %", "1.0 %"]]
    expect(tip.locator(".ts-taken code")).to_have_text("⏎⏎")


def test_the_keyboard_reaches_tokens_and_leaves_them(tab, tokens):
    assert [token.get_attribute("tabindex") for token in tokens.all()] == ["0", "-1", "-1"]
    tokens.first.focus()
    tab.keyboard.press("ArrowRight")
    expect(tokens.nth(1)).to_be_focused()
    tab.keyboard.press("End")
    expect(tokens.nth(2)).to_be_focused()
    tab.keyboard.press("Home")
    tab.keyboard.press("Enter")
    expect(tab.locator(".ts-panel button.ts-tiprow:enabled")).to_be_focused()
    tab.keyboard.press("Escape")
    expect(tab.locator(".ts-panel")).to_be_hidden()
    expect(tokens.first).to_be_focused()


def test_another_choice_becomes_a_column_that_goes_on_from_there(tab, cards, tokens):
    cards.first.locator(".ts-knobs > summary").click()
    cards.first.locator("input[name=top_p]").fill("0.5")
    tokens.nth(1).click()
    tab.locator(".ts-panel button", has_text="more").click()
    expect(cards).to_have_count(5)
    made = cards.nth(1)
    expect(made.locator(".ts-mark")).to_have_text("from “ more”")
    expect(made.locator(".ts-knobs > summary")).to_have_text("top_p 0.9 · temperature 1")
    assert made.locator("input[name=start]").input_value() == "1,4"
    expect(made.locator(".ts-run")).to_be_focused()
    assert 'start="1,4:Once more"' in linked(tab).columns[1]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_longest_title_of_a_strategy_is_read_whole(tab, cards, width):
    """Nothing of it is cut, neither at four cards a row (about 260 px each) nor on a phone; the keyboard reaches it."""
    tab.set_viewport_size({"width": width, "height": 844})
    card = cards.first
    card.locator(".ts-strategy").select_option("nucleus")
    title = card.locator(".ts-pick span")
    expect(title).to_have_text("Nucleus (top-p) sampling")
    assert title.evaluate("node => node.scrollWidth <= node.clientWidth && node.scrollHeight <= node.clientHeight + 1")
    inner, outer = title.bounding_box(), card.locator(".ts-pick").bounding_box()
    assert outer["x"] <= inner["x"] and inner["x"] + inner["width"] <= outer["x"] + outer["width"]
    assert outer["y"] <= inner["y"] and inner["y"] + inner["height"] <= outer["y"] + outer["height"]
    card.locator(".ts-strategy").focus()
    assert card.locator(".ts-pick").evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    tab.keyboard.press("Home")
    expect(title).to_have_text("Greedy")
    picture(tab, f"titles-{width}")


def test_a_character_in_several_tokens_is_read_where_it_is_whole(tab, cards):
    """Its first tokens are dots; what goes on from there takes its text along beside the ids."""
    pieces = {"1": "a", "2": "\ufffd", "3": "\ufffd", "4": " b", "5": " c"}
    rows = [[1, 0.9, 1, 1, 0.9, 1, [], [], None], [2, 0.5, 1, 1, 0.5, 1, [], [], None, ""],
            [3, 0.5, 1, 1, 0.5, 1, [], [], None, "茶"], [4, 0.5, 1, 1, 0.5, 2, [4, 5], [0.5, 0.4], None]]  # fmt: skip
    show(tab, {"run": -1, "packed": [packed(pieces, rows)], "columns": [written("a茶 b")]})
    tab.locator(".ts-look").select_option("rank")
    shown = cards.first.locator(".ts-token")
    expect(shown).to_have_text(["a", "·", "茶", "b"])
    expect(shown.nth(1)).to_have_attribute("aria-label", "part of a character, 50 %")
    shown.nth(3).click()
    tab.locator(".ts-panel button", has_text="c").click()
    assert 'start="1,2,3,5:a\ufffd\ufffd c|a茶 c"' in linked(tab).columns[1]


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


def test_a_sweep_takes_the_place_of_the_board_and_back_brings_it_back(tab, cards):
    cards.nth(2).locator(".ts-sweep").click()
    tab.locator(".ts-panel [name=knob]").select_option("temperature")
    tab.locator(".ts-panel [name=low]").fill("0.25")
    tab.locator(".ts-panel [name=high]").fill("4")
    tab.locator(".ts-panel [name=scale]").select_option("log")
    tab.locator(".ts-panel .ts-on").click()
    heats = ["0.25", "0.5", "1", "2", "4"]
    expect(tab.locator(".ts-knobs > summary")).to_have_text([f"top_p 0.9 · temperature {heat}" for heat in heats])
    tab.locator(".ts-back").click()
    expect(cards).to_have_count(4)
    expect(tab.locator(".ts-back")).to_be_hidden()


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
    tab.locator("#compare-model input").fill(str(model))
    tab.locator("#compare-model input").press("Enter")
    tab.locator(".ts-authors").click()
    expect(cards).to_have_count(5)
    expect(cards.last.locator(".ts-mark")).to_have_text("as its authors set it")
    expect(cards.last.locator(".ts-knobs > summary")).to_have_text("top_p 0.8 · temperature 1 · top_k 20")
    expect(tab.locator("#compare-status")).to_contain_text("min_new_tokens")


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


def test_after_an_error_no_card_goes_on_writing(tab, cards):
    tab.locator(".ts-presets").select_option("added")
    tab.locator("#prompt textarea").fill("how to make tea")
    tab.locator("#compare-start").click()
    expect(tab.get_by_test_id("toast-text")).to_contain_text("needs a LoRA adapter")
    expect(tab.locator(".ts-writing")).to_have_count(0)
    expect(tab.locator("#compare-start")).to_be_enabled()


def test_columns_are_added_doubled_and_removed_up_to_twelve(tab, cards):
    cards.first.locator(".ts-strategy").select_option("beam")
    cards.first.locator(".ts-knobs > summary").click()
    cards.first.locator("input[type=number]").first.fill("3")
    cards.first.locator(".ts-copy").click()
    assert cards.nth(1).locator(".ts-knobs > summary").text_content().startswith("num_beams 3")
    while tab.locator(".ts-add").is_enabled():
        tab.locator(".ts-add").click()
    assert cards.count() == 12
    while cards.count() > 1:
        cards.last.locator(".ts-close").click()
    assert cards.first.locator(".ts-close").is_disabled()


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
