"""Choosing a model in a real browser: filters, sorting, the Hub, a click that fills the field."""

import pytest
from playwright.sync_api import expect

from finetune.base_models.suggested import SUGGESTED, matching
from tests.ui.conftest import picture
from tests.ui.test_loop import open_tab

pytestmark = pytest.mark.browser
GATED = "meta-llama/Llama-3.2-1B-Instruct"


@pytest.fixture(scope="module")
def on_the_hub(hub_process, tiny_model):
    """A model on the Hub that nobody suggests."""
    return hub_process.add_model("chooser-tiny", tiny_model)


@pytest.fixture
def picker(tab):
    """The Fine-tune tab with the panel open, as it opens first."""
    open_tab(tab, "Fine-tune")
    if not tab.locator("#train-picker").is_visible():
        tab.locator("#train-choose").click()
    tab.locator("#train-picker-table tbody tr, #train-picker-table p").first.wait_for()
    if tab.locator("#train-picker-table [aria-sort]:not([aria-sort=none])").count():
        select(tab, "task", "code")
    for field in ("task", "size", "language"):
        if tab.locator(f"#train-picker-{field} input").input_value() != "any":
            select(tab, field, "any")
    expect(tab.locator("#train-picker-table tbody tr")).to_have_count(len(SUGGESTED))
    return tab


def names(page):
    return page.locator("#train-picker-table tbody tr").evaluate_all("rows => rows.map(row => row.dataset.row)")


def select(page, field, option):
    """Choose from one list; another that was open may still be closing."""
    box = page.locator(f"#train-picker-{field} input")
    box.click()
    choices = page.locator(f"#{box.get_attribute('aria-controls')}")
    choices.get_by_role("option", name=option, exact=True).click()


def test_every_suggestion_is_listed_with_what_fits_here(picker):
    assert names(picker) == [model.name for model in SUGGESTED]
    first = picker.locator("#train-picker-table tbody tr").first
    expect(first.locator("td").nth(0)).to_have_text("135 M")
    expect(first.locator("td").nth(1)).to_have_text("apache-2.0")
    expect(first.locator(".ts-way")).to_have_count(4)
    expect(first.locator(".ts-way").first).to_contain_text("GB")
    expect(picker.locator("#train-picker-table .ts-about")).to_contain_text("8 rows of 1024 tokens")


def test_filters_leave_what_was_asked_for(picker):
    select(picker, "task", "code")
    expect(picker.locator("#train-picker-table tbody tr")).to_have_count(len(matching(SUGGESTED, "code")))
    select(picker, "task", "any")
    select(picker, "size", "2 to 5 B")
    select(picker, "language", "zh")
    wanted = [model.name for model in matching(SUGGESTED, None, "medium", "zh")]
    expect(picker.locator("#train-picker-table tbody tr")).to_have_count(len(wanted))
    assert names(picker) == wanted
    select(picker, "task", "code")
    expect(picker.locator("#train-picker-table")).to_contain_text("No model matches all filters")


def test_a_click_fills_the_field_and_says_what_to_know(picker):
    picker.get_by_role("button", name=GATED, exact=True).click()
    expect(picker.locator("#knob-model input")).to_have_value(GATED)
    told = picker.locator("#train-picker-told")
    expect(told).to_contain_text("llama3.2")
    expect(told).to_contain_text("This model is gated. Request access on its page")
    assert told.get_by_role("link").get_attribute("href").endswith(GATED)
    expect(picker.locator(f'[data-row="{GATED}"]')).to_have_class("ts-chosen")
    picker.get_by_role("button", name="Qwen/Qwen3-0.6B", exact=True).click()
    expect(picker.locator("#knob-model input")).to_have_value("Qwen/Qwen3-0.6B")
    expect(told.get_by_role("link")).to_have_count(0)
    picker.locator("#train-picker-close").click()
    expect(picker.locator("#train-picker")).to_be_hidden()
    expect(picker.locator("#knob-model input")).to_have_value("Qwen/Qwen3-0.6B")


def test_headers_sort_up_and_down(picker):
    head = picker.get_by_role("columnheader", name="Weights")
    head.get_by_role("button").click()
    counts = {model.name: model.parameters for model in SUGGESTED}
    assert [counts[name] for name in names(picker)] == sorted(counts.values())
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").click()
    assert [counts[name] for name in names(picker)] == sorted(counts.values(), reverse=True)
    picker.get_by_role("columnheader", name="Model").get_by_role("button").click()
    assert names(picker) == sorted(counts, key=str.lower)


@pytest.mark.ci
def test_the_keyboard_does_it_all(picker):
    tab = picker
    tab.locator("#train-picker-close").click()
    expect(tab.locator("#train-picker")).to_be_hidden()
    tab.locator("#train-choose").focus()
    tab.keyboard.press("Enter")
    tab.locator("#train-picker-table tbody tr").first.wait_for()
    tab.get_by_role("columnheader", name="Weights").get_by_role("button").focus()
    tab.keyboard.press("Enter")
    assert names(tab)[0] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    tab.locator("[data-choose]").nth(1).focus()
    tab.keyboard.press("Space")
    expect(tab.locator("#knob-model input")).to_have_value(names(tab)[1])


def test_the_hub_is_searched_and_what_was_found_is_chosen(picker, on_the_hub):
    picker.locator("#train-picker-text input").fill("chooser")
    picker.locator("#train-picker-text input").press("Enter")
    expect(picker.locator("#train-picker-table caption")).to_contain_text("chooser")
    assert names(picker) == [on_the_hub]
    picker.get_by_role("button", name=on_the_hub, exact=True).click()
    expect(picker.locator("#knob-model input")).to_have_value(on_the_hub)
    picker.locator("#train-picker-text input").fill("no such <b>model</b>")
    picker.locator("#train-picker-go").click()
    expect(picker.locator("#train-picker-table")).to_contain_text('"no such <b>model</b>"')
    picker.locator("#train-picker-text input").fill("")
    picker.locator("#train-picker-go").click()
    expect(picker.locator("#train-picker-table tbody tr")).to_have_count(len(SUGGESTED))


@pytest.mark.ci
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_wide_and_narrow_pages(window, app, scheme):
    window.emulate_media(color_scheme=scheme)
    window.goto(app.url)
    window.get_by_role("tab", name="Fine-tune", exact=True).click()
    window.locator("#train-choose").click()
    window.locator("#train-picker-table tbody tr").first.wait_for()
    window.get_by_role("button", name=GATED, exact=True).click()
    expect(window.locator("#train-picker-told")).to_contain_text("llama3.2")
    for width in (1280, 390):
        window.set_viewport_size({"width": width, "height": 800})
        window.wait_for_function(f"innerWidth === {width}")
        picture(window, f"picker-{width}-{scheme}")
        assert window.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.ci
def test_compare_takes_a_model_from_a_panel_of_its_own(tab):
    open_tab(tab, "Fine-tune")
    tab.locator("#knob-model input").fill("a/model-of-my-own")
    open_tab(tab, "Compare")
    tab.locator("#compare-choose").click()
    tab.locator("#compare-picker").get_by_role("button", name="Qwen/Qwen3-0.6B", exact=True).click()
    expect(tab.locator("#compare-model input")).to_have_value("Qwen/Qwen3-0.6B")
    expect(tab.locator("#compare-picker-told")).to_contain_text("596 M")
    picture(tab, "picker-compare")
    open_tab(tab, "Fine-tune")
    expect(tab.locator("#knob-model input")).to_have_value("a/model-of-my-own")
