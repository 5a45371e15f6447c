"""The cards of Compare in a real browser, without a server: text stays text, tokens tell, columns come and go."""

import json
import re

import pytest
from playwright.sync_api import expect

from tests.ui.static_board import asked, open_board, set_value
from tests.ui.test_loop import MARKUP

pytestmark = pytest.mark.browser


@pytest.fixture
def tab(window):
    """A browser tab with the board alone."""
    open_board(window)
    return window


@pytest.fixture
def cards(tab):
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
        "rank 300 · Entropy 4.33 bits · Surprisal 8.97 bits · 12 tokens kept"
    )
    rows = [row.locator(":scope > span:not(.ts-bars)").all_text_contents() for row in tip.locator(".ts-tiprow").all()]
    assert rows[1:] == [["90 %", "99 %"], ["1.0 %", "removed"], ["0.20 %", "1.0 %"]]
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
    assert 'start="1,4:Once more"' in asked(tab)[1]


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
    assert 'start="1,2,3,5:a\ufffd\ufffd c|a茶 c"' in asked(tab)[1]


def test_what_the_cards_say_is_what_is_sent_whatever_value_comes_back(tab, cards):
    """Gradio sets a value of earlier once more when a tab is shown for the first time."""
    before = asked(tab)
    cards.nth(1).locator(".ts-close").click()
    set_value(tab, before)
    assert asked(tab) == [before[0], *before[2:]] and cards.count() == len(before) - 1


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
