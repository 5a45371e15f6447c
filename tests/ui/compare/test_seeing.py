"""What stands below the board after a comparison, in a real browser: every view, by mouse and by keyboard."""

import csv
import json

import pytest
from playwright.sync_api import expect

from tests.tiny_model import make_tiny_tokenizer
from tests.ui.conftest import picture
from tests.ui.test_loop import open_tab

pytestmark = [pytest.mark.browser, pytest.mark.ci]
MARKUP = "<img src=x onerror=alert(1)>"


def column(strategy, **knobs):
    return {"strategy": strategy, "model": "", "knobs": {name: str(value) for name, value in knobs.items()}}


def ask_for(page, columns):
    """Let the page ask for these columns, whatever stands on its board."""

    def instead(route):
        body = route.request.post_data_json
        asked = [isinstance(value, dict) and "columns" in value for value in body.get("data") or []]
        body["data"] = [
            {"columns": columns} if board else value for board, value in zip(asked, body.get("data") or [], strict=True)
        ]
        route.continue_(post_data=json.dumps(body))

    page.route("**/queue/join*", instead)


@pytest.fixture
def compared(tab, tiny_model):
    """A tab in which four columns were compared, all of which wrote markup first."""
    start = ",".join(map(str, make_tiny_tokenizer()(MARKUP)["input_ids"]))
    columns = [
        column("greedy", banned="<img/src=x>", start=start),
        column("beam", num_beams=3, start=start),
        column("dynamic_beam", start=start),
        column("nucleus", temperature=0.8, seed=3, start=start),
    ]
    ask_for(tab, columns)
    open_tab(tab, "Compare")
    assert not tab.locator("#seeing").is_visible()
    tab.locator("#compare-model input").fill(str(tiny_model))
    tab.locator("#compare-model input").press("Enter")
    tab.locator("#compare-length input").fill("60")
    tab.locator("#prompt textarea").fill("how to make tea")
    tab.locator("#compare-start").click()
    tab.locator("#summary table").wait_for()
    yield tab
    assert tab.locator("#seeing img").count() == 0


def test_every_view_of_a_comparison(compared):
    """Slow: every view is opened and looked at in a browser."""
    figures(compared)
    downloads(compared)
    forks(compared)
    curves(compared)
    beam_tree(compared)
    processors(compared)
    check(compared)
    verdicts_go_with_their_comparison(compared)
    on_a_phone(compared)


def figures(tab):
    rows = tab.locator("#summary tbody tr")
    expect(rows).to_have_count(4)
    head = tab.locator("#summary th[data-measure=log_prob]")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    values = [float(row.locator("td").first.get_attribute("data-value")) for row in rows.all()]
    assert values == sorted(values)
    head.get_by_role("button").press("Enter")
    expect(head).to_have_attribute("aria-sort", "descending")
    assert [float(row.locator("td").first.get_attribute("data-value")) for row in rows.all()] == values[::-1]
    tab.locator("#summary th[data-measure=rep_4] button").focus()
    tip = tab.locator(".ts-fact:visible")
    expect(tip).to_contain_text("arXiv:1908.04319")
    assert tab.locator("#summary th[data-measure=rep_4] button").get_attribute("aria-describedby") == tip.get_attribute(
        "id"
    )
    picture(tab, "seeing-figures")
    tab.keyboard.press("Escape")
    expect(tip).to_have_count(0)


def downloads(tab):
    table, whole = saved(tab, "#download-csv"), saved(tab, "#download-json")
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["name"].split()[0] for row in rows] == ["greedy", "beam", "dynamic_beam", "nucleus"]
    assert [column["text"][: len(MARKUP)] for column in json.loads(whole)["columns"]] == [MARKUP] * 4


def saved(tab, button):
    with tab.expect_download() as coming:
        tab.locator(button).click()
    return coming.value.path().read_text(encoding="utf-8")


def forks(tab):
    open_tab(tab, "Forks")
    tab.locator("#forks .ts-shared").get_by_text(MARKUP).wait_for()
    cards = tab.locator("#forks [data-column]")
    expect(cards).to_have_count(4)
    expect(cards.first).to_contain_text("banned=<img/src=x>")
    expect(cards.nth(3).locator(".ts-fork tbody tr")).to_have_count(2)
    expect(cards.nth(3).locator("mark")).to_have_count(1)
    picture(tab, "seeing-forks")
    choose(tab, "#fork-reference", "4 ·")
    expect(cards.nth(3).locator("mark")).to_have_count(0)
    expect(cards.first).to_contain_text("Diverges from column 4 at token")
    tab.locator("#forks summary").click()
    expect(tab.locator("#forks .ts-pairs tbody tr")).to_have_count(3)


def choose(tab, dropdown, start):
    tab.locator(f"{dropdown} input").click()
    tab.locator(dropdown).get_by_role("option").filter(has_text=start).first.click()


def curves(tab):
    open_tab(tab, "Curves")
    for plot in ("#plot-entropy", "#plot-kept"):
        tab.locator(f"{plot} svg.marks, {plot} canvas.marks").wait_for()
    tab.locator("#curve-columns").get_by_label("1 ·").uncheck()
    tab.locator("#plot-entropy").get_by_text("token").first.wait_for()
    picture(tab, "seeing-curves")


def beam_tree(tab):
    open_tab(tab, "Beam tree")
    nodes = tab.locator("#beam-tree [data-node]")
    nodes.first.wait_for()
    assert tab.locator("#beam-tree g.ts-on-path").count() == 60
    assert tab.locator("#beam-tree [tabindex='0'][data-node]").count() == 1
    nodes.first.focus()
    expect(tab.locator(".ts-fact:visible")).to_contain_text("score")
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate("document.activeElement.dataset.parent") == nodes.first.get_attribute("data-node")
    tab.keyboard.press("ArrowLeft")
    assert tab.evaluate("document.activeElement.dataset.step") == "0"
    choose(tab, "#tree-column", "3 ·")
    expect(tab.locator("#rows-saved")).to_contain_text("row-forwards instead of")
    expect(tab.locator("#beam-tree rect.ts-bar")).to_have_count(60)
    picture(tab, "seeing-tree")


def processors(tab):
    open_tab(tab, "Processors")
    boxes = tab.locator("#chain [data-column='4'] .ts-chain li")
    expect(boxes).to_have_count(4)
    expect(boxes.nth(1)).to_contain_text("removes no tokens")
    expect(boxes.nth(2)).to_contain_text("keeps")


def check(tab):
    open_tab(tab, "Check")
    tab.locator("#check-start").click()
    verdicts = tab.locator("#verdicts li")
    expect(verdicts).to_have_count(4)
    expect(tab.locator("#check-start")).to_be_enabled()
    expect(tab.locator("#check-stop")).to_be_hidden()
    expect(verdicts.first).to_have_class("ts-is-identical")
    expect(verdicts.nth(2)).to_have_class("ts-is-none")
    picture(tab, "seeing-check")


def verdicts_go_with_their_comparison(tab):
    tab.locator("#compare-start").click()
    expect(tab.locator("#verdicts li")).to_have_count(0)
    expect(tab.locator("#compare-start")).to_be_enabled()
    expect(tab.locator("#compare-status")).to_contain_text("forward passes")


def on_a_phone(tab):
    tab.set_viewport_size({"width": 390, "height": 844})
    for name in ("Metrics", "Forks", "Curves", "Beam tree", "Processors", "Check"):
        open_tab(tab, name)
        tab.wait_for_function("document.documentElement.scrollWidth <= 390")
    open_tab(tab, "Beam tree")
    picture(tab, "seeing-phone")
