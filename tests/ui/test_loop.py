"""The whole loop in a real browser, on a tiny model: data in, fine-tune, compare, publish."""

import json
import re

import httpx
import pytest
from playwright.sync_api import expect

from tests.ui.conftest import picture

pytestmark = pytest.mark.browser
LEARNED = """start => {
    const row = document.querySelectorAll("#preview .ts-row")[1];
    return row && [...row.querySelectorAll(".ts-loss")].map(piece => piece.textContent).join("").startsWith(start);
}"""
MARKUP = "<img src=x onerror=alert(1)>{{7*7}}${8*8}"


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory):
    """Ten conversations, one of them with markup, and one row without an answer, in a file with markup in its name."""
    rows = [{"instruction": f"Question {number}?", "output": f"Answer {number}."} for number in range(10)]
    rows[0]["instruction"] = MARKUP
    rows.append({"instruction": "unanswered", "output": ""})
    path = tmp_path_factory.mktemp("rows") / "<b>rows & more.json"
    path.write_text(json.dumps(rows))
    return path


def open_tab(page, name):
    """A tab that is open already is left alone: to change between tabs takes a second or more."""
    button = page.get_by_role("tab", name=name, exact=True)
    if button.get_attribute("aria-selected") != "true":
        button.click()


def unfold(page, name):
    """Open an accordion, unless it is open."""
    button = page.get_by_role("button", name=name)
    if "open" not in (button.get_attribute("class") or "").split():
        button.click()


def close_toasts(page):
    """Take away what was said of earlier mistakes. One that is going away by itself takes no click of a mouse."""
    toasts = page.get_by_test_id("toast-close")
    toasts.evaluate_all("buttons => buttons.forEach(button => button.click())")
    expect(toasts).to_have_count(0)


def test_the_loop(tab, rows_file, tiny_model, hub_process):
    """Slow: data, a training, a comparison and a verified push in one browser."""
    tab.locator("#upload input[type=file]").set_input_files(rows_file)
    expect(tab.locator("#dataset .ts-title")).to_contain_text("rows & more.json")
    expect(tab.locator("#dataset .ts-figures b")).to_have_text(["10", "1", "chat", "alpaca"])
    expect(tab.locator("#findings td.ts-mono")).to_have_text(["11"])
    see_what_is_learned(tab, tiny_model)
    run = fine_tune(tab, tiny_model)
    compare(tab, run)
    publish(tab, run, hub_process)


def see_what_is_learned(tab, tiny_model):
    tab.get_by_label("Tokens with loss").click()
    tab.locator("#preview-model input, #preview-model textarea").first.fill(str(tiny_model))
    tab.locator("#preview-model input, #preview-model textarea").first.press("Enter")
    tab.wait_for_function(LEARNED, arg="Answer 1.")
    tab.locator("#preview .ts-row").first.get_by_text(MARKUP).wait_for()
    assert tab.locator("img[src='x']").count() == 0
    picture(tab, "data")


def choose_only(tab, field, text):
    """Take what is chosen out of a field, the newest by itself or what other tests of the session left, and choose the
    one with a text. A click on one that the page chooses at the same moment would take it out again."""
    box = tab.locator(field)
    box.get_by_role("button", name="Clear").click()
    box.locator("input").click()
    box.get_by_role("option", name=text).first.click()
    expect(box).to_contain_text(text)


def fine_tune(tab, tiny_model):
    open_tab(tab, "Fine-tune")
    tab.locator("#knob-model input").fill(str(tiny_model))
    tab.locator("#knob-limits-max_length input").fill("128")
    tab.locator("#knob-optim-epochs input").fill("2")
    choose_only(tab, "#train-on", "rows & more.json")
    tab.locator("#start").click()
    tab.locator("#train-answer .ts-good").wait_for()
    run = re.search(r"r\d+-\d+-\w+", tab.locator("#train-answer").text_content()).group()
    expect(tab.locator("#run-state code")).to_have_text(run)
    tab.locator("#run-state .ts-is-done").wait_for()
    tab.locator("#plots").get_by_text("validation").wait_for()
    tab.locator("#samples .ts-assistant").first.wait_for()
    picture(tab, "fine-tune")
    return run


def compare(tab, run):
    open_tab(tab, "Compare")
    cards = tab.locator(".ts-col")
    while cards.count() > 2:
        cards.last.locator(".ts-close").click()
    cards.nth(0).locator(".ts-model").select_option(run)
    cards.nth(1).locator(".ts-model").select_option("?")
    cards.nth(1).locator(".ts-other").fill(run)
    tab.locator("#compare-model input").fill(run)
    tab.locator("#compare-model input").press("Enter")
    cards.nth(1).locator(".ts-model").select_option("base")
    tab.locator("#compare-length input").fill("8")
    tab.locator("#prompt textarea").fill(MARKUP)
    tab.locator("#compare-start").click()
    tab.locator(".ts-col footer span").nth(13).wait_for()
    tab.locator(".ts-look").select_option("probability")
    tab.locator(".ts-token").first.hover()
    expect(tab.locator(".ts-tip .ts-taken")).to_have_count(1)
    assert tab.locator("img[src='x']").count() == 0
    picture(tab, "compare")


def publish(tab, run, hub_process):
    open_tab(tab, "Publish")
    tab.locator("#published").get_by_text("then preview the push").wait_for()
    look_at(tab, f"{hub_process.user}/from-the-page", "adapter_model.safetensors")
    assert tab.locator("#published .ts-empty").count() == 0
    tab.locator("#publish-edit button").first.click()
    card = tab.locator("#publish-text textarea")
    expect(card).to_have_value(re.compile("## Limitations"))
    card.fill(card.input_value().replace("## Limitations", f"{MARKUP} by hand\n\n## Limitations"))
    push_and_prove(tab)
    assert tab.locator("#published").bounding_box()["y"] > tab.locator("#publish-prove").bounding_box()["y"]
    assert "will be created" not in tab.locator("#publish-plan").text_content()
    assert f"{MARKUP} by hand" in on_the_hub(hub_process, "from-the-page/resolve/main/README.md")
    expect(tab.locator("#publish-card")).to_contain_text("by hand")
    assert tab.locator("img[onerror]").count() == 0
    picture(tab, "publish")
    publish_the_data(tab, hub_process)


def publish_the_data(tab, hub_process):
    """Another kind: what was imported, which nobody but a person knows the licence of."""
    tab.get_by_label("Dataset", exact=True).first.check()
    expect(tab.locator("#publish-run")).to_be_hidden()
    tab.locator("#publish-dataset input").click()
    tab.get_by_role("option", name="rows & more.json").first.click()
    expect(tab.locator("#publish-dataset input")).to_have_value(re.compile("rows & more.json"))
    tab.locator("#publish-licence input, #publish-licence textarea").first.fill("cc-by-4.0")
    look_at(tab, f"{hub_process.user}/rows-of-the-page", "data/train.parquet")
    push_and_prove(tab)
    assert "license: cc-by-4.0" in on_the_hub(hub_process, "rows-of-the-page/resolve/main/README.md", "datasets/")


def look_at(tab, repo, file):
    tab.locator("#publish-repo input, #publish-repo textarea").first.fill(repo)
    tab.locator("#publish-look").click()
    tab.locator("#publish-plan").get_by_text(file).wait_for()
    expect(tab.locator("#publish-plan")).to_contain_text("will be created")


def push_and_prove(tab):
    tab.locator("#publish-push").click()
    tab.locator("#published a").first.wait_for()
    tab.locator("#published .ts-good").wait_for()
    expect(tab.locator("#publish-plan")).to_contain_text("Published files.")
    expect(tab.locator("#publish-push")).to_be_hidden()


def on_the_hub(hub_process, path, kind=""):
    headers = {"authorization": f"Bearer {hub_process.token}"}
    return httpx.get(f"{hub_process.url}/{kind}{hub_process.user}/{path}", headers=headers, follow_redirects=True).text
