"""A link in the address fills Compare and starts nothing; the button makes a link of what stands there."""

import re
import shutil
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect
from safetensors.torch import load_file, save_file

from inference.compare.record import link_of, request_of
from inference.compare.request import CompareRequest
from inference.strategies.table import parse_column
from tests.ui.conftest import picture
from tests.ui.test_loop import MARKUP, open_tab

pytestmark = pytest.mark.browser
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi!\nWell?"},
    {"role": "user", "content": MARKUP},
]


def _open(window, app, text):
    window.goto(f"{app.url}/?c={text}")
    expect(window.get_by_role("tab", name="Compare", exact=True)).to_have_attribute("aria-selected", "true")


def test_a_link_fills_the_tab_and_starts_nothing(window, app, tiny_model):
    columns = ["nucleus top_p=0.7 temperature=0.8", "beam num_beams=3", "greedy model=base"]
    request = CompareRequest(str(tiny_model), columns, messages=TURNS, seed=41, max_new_tokens=9, dtype="bfloat16")
    _open(window, app, link_of(request))
    expect(window.locator("#prompt textarea")).to_have_value(MARKUP)
    expect(window.locator("#compare-model input")).to_have_value(str(tiny_model))
    expect(window.locator("#compare-seed input")).to_have_value("41")
    expect(window.locator("#compare-length input")).to_have_value("9")
    expect(window.locator(".ts-col")).to_have_count(3)
    expect(window.locator("#compare-status")).to_contain_text("Filled from a link")
    assert window.locator("#compare-stop").is_disabled()
    expect(window.get_by_text("Press Compare. The text appears")).to_have_count(3)
    picture(window, "link-opened")
    window.locator("#compare-link").click()
    made = window.locator("#compare-link-made textarea, #compare-link-made input").first
    expect(made).to_have_value(_address(app))
    picture(window, "link-made")
    again = request_of(parse_qs(urlsplit(made.input_value()).query)["c"][0])
    assert {name: value for name, value in vars(again).items() if name != "columns"} == {
        name: value for name, value in vars(request).items() if name != "columns"
    }
    assert [parse_column(line).knobs for line in again.columns] == [parse_column(line).knobs for line in columns]


def _address(app):
    return re.compile(re.escape(f"{app.url}/?c=") + "[A-Za-z0-9_-]+")


@pytest.mark.ci
def test_the_link_of_the_button_brings_back_what_stood_there(tab, app, tiny_model):
    open_tab(tab, "Compare")
    tab.locator("#prompt textarea").fill("tea & <b>?")
    tab.locator("#compare-link").click()
    made = tab.locator("#compare-link-made textarea, #compare-link-made input").first
    expect(made).to_have_value(_address(app))
    request = request_of(parse_qs(urlsplit(made.input_value()).query)["c"][0])
    assert request.prompt == "tea & <b>?"
    assert [parse_column(line).strategy for line in request.columns] == ["greedy", "beam", "nucleus", "min_p"]


@pytest.mark.ci
@pytest.mark.parametrize("text", ["nonsense", "AAAA"])
def test_a_damaged_link_is_said_and_leaves_the_tab_as_it_is(window, app, text):
    _open(window, app, text)
    expect(window.locator("#compare-status")).to_contain_text("damaged or incomplete")
    expect(window.locator(".ts-col")).to_have_count(4)


@pytest.mark.ci
def test_a_link_to_what_was_run_says_what_is_as_it_was_then(window, app, tiny_model, tmp_path):
    """Run, linked, opened and run again: the same; and again after the model's weights were exchanged.

    Slow: the page is opened three times, and its model is loaded twice.
    """
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    request = CompareRequest(str(model), ["greedy", f"beam model={tiny_model}"], "tea?", max_new_tokens=5)
    _open(window, app, link_of(request))
    status, ran = window.locator("#compare-status"), re.compile("forward passes")
    window.locator("#compare-start").click()
    expect(status).to_contain_text(ran)
    expect(status).not_to_contain_text("match the comparison behind the link")
    window.locator("#compare-link").click()
    made = window.locator("#compare-link-made textarea, #compare-link-made input").first
    expect(made).to_have_value(_address(app))
    _open(window, app, parse_qs(urlsplit(made.input_value()).query)["c"][0])
    window.locator("#compare-start").click()
    expect(status).to_contain_text("match the comparison behind the link")
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"] *= 1.5
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    window.locator("#compare-start").click()
    expect(status).to_contain_text(f"{model} (columns 1) has other weights")
    expect(status).not_to_contain_text(f"{tiny_model} (columns")
    picture(window, "link-other-weights")
