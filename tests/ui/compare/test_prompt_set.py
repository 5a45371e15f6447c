"""A prompt set on the page: it goes on without its tab, is found again, is its owner's alone."""

import csv
import io
import time
from pathlib import Path

import pytest

from core.errors import UserError
from core.workspace import Owner
from inference.compare.request import CompareRequest
from inference.measures.bootstrap import Estimate
from inference.measures.summary import MEASURES
from inference.prompt_sets import report as set_report
from inference.prompt_sets.running import Answer, Outcome, PromptProblem, PromptSet
from tests.tiny.training import make_run, write_data
from tests.ui.conftest import picture
from tests.ui.people import Visitor, entry_of, file_data
from tests.ui.test_loop import MARKUP, open_tab
from ui.compare import prompt_sets
from ui.compare.prompt_sets_view import EDGE, WIDTH, lines_of, shown, whiskers_of
from ui.web.handler import Caller


def _kept(owner, columns=("greedy", "sample"), answers=3):
    """A set that was answered: the second column is 1 above the first in every measure."""
    rows = [dict.fromkeys((m.key for m in MEASURES), float(place)) for place in range(len(columns))]
    named = [row | {"name": name, "model": "base", "text": MARKUP} for name, row in zip(columns, rows, strict=True)]
    told = [Answer(number, MARKUP, number, named) for number in range(answers)]
    asked = PromptSet((), CompareRequest("a model", list(columns)), MARKUP)
    outcome = Outcome(told, [PromptProblem(9, MARKUP, MARKUP, MARKUP)], model=MARKUP, dtype="float32")
    report = set_report.report_of(set_report.new_id(), asked, outcome)
    set_report.save(owner, report, outcome)
    return report


def test_whiskers_reach_from_edge_to_edge_on_one_scale():
    low, high = whiskers_of([Estimate(1.0, 0.0, 2.0, 5), None, Estimate(3.0, 2.0, 4.0, 5)])
    assert (low.number, high.number) == (1, 3)
    assert low.left == EDGE and high.right == WIDTH - 8
    assert low.right == high.left == pytest.approx((EDGE + WIDTH - 8) / 2)


def test_one_value_for_all_is_drawn_in_the_middle():
    (one,) = whiskers_of([Estimate(2.0, None, None, 1)])
    assert one.left == one.x == one.right == pytest.approx((EDGE + WIDTH - 8) / 2)


def test_a_difference_is_marked_where_its_interval_is_clear_of_zero(owner):
    lines = lines_of(_kept(owner))
    assert [line.measure for line in lines] == list(MEASURES)
    first, second = lines[0].cells
    assert (first.difference, first.clear) == ("", False)
    assert (second.difference, second.clear) == ("Δ +1.00 [+1.00, +1.00]", True)


def test_everything_in_a_report_is_text(owner):
    report = _kept(owner, columns=(MARKUP, MARKUP))
    html = shown(owner, report["id"])
    assert "<img" not in html and html.count("&lt;img") >= 6


def test_a_set_of_another_owner_is_not_shown(owner):
    report = _kept(owner)
    with pytest.raises(Exception, match=report["id"]):
        shown(Owner("somebody"), report["id"])


def test_prompts_come_from_a_runs_held_out_rows_or_a_datasets_first_ones(owner, tiny_model, tmp_path):
    run = make_run(owner, tiny_model, write_data(tmp_path / "data.json"), limits__validation=0.25)
    caller, dataset = Caller(owner, "en", "a tab"), run.config().stages[0].data[0].dataset
    held, name = prompt_sets._prompts(caller, None, run.id, 4)
    assert len(held) == 4 and run.id in name
    first, _ = prompt_sets._prompts(caller, None, dataset, 3)
    assert [one.shown for one in first] == ["say 0", "say 1", "say 2"]
    for wrong, code in ((None, "sets.no_source"), ("../x", "core."), ("r20260101-000000-abcd", "core.no_run")):
        with pytest.raises(UserError) as refused:
            prompt_sets._prompts(caller, None, wrong, 3)
        assert refused.value.code.startswith(code)


@pytest.fixture
def accordion(tab):
    return _open(tab)


def _open(page):
    open_tab(page, "Compare")
    if not page.locator("#set-start").is_visible():
        page.locator("#prompt-set > button").click()
    page.locator("#set-start").wait_for()
    return page


def _ask(page, model, path, length):
    page.locator("#compare-model input").fill(str(model))
    page.locator("#compare-model input").press("Enter")
    page.locator("#compare-length input").fill(str(length))
    page.locator("#set-file input[type=file]").set_input_files(path)
    page.locator("#set-file").get_by_text(path.stem).wait_for()
    page.locator("#set-start").click()


@pytest.mark.browser
def test_a_set_goes_on_when_its_tab_is_closed_and_is_found_again(accordion, app, tiny_model, tmp_path):
    path = tmp_path / "fables.txt"
    path.write_text(f"the quick fox\n{'y' * 600}\n{MARKUP}\n")
    page = accordion
    _ask(page, tiny_model, path, 12)
    page.locator("#set-stop:enabled").wait_for()
    page.goto("about:blank")
    page.goto(app.url)
    _open(page)
    page.locator("#set-result").get_by_text("2 of 3 prompts answered").wait_for()
    page.locator("#set-result summary").click()
    page.locator("#set-result li").get_by_text("context").wait_for()
    assert page.locator("#set-result tbody tr").count() == len(MEASURES) - 1
    assert page.locator("#set-result svg circle").count() == 4 * (len(MEASURES) - 1)
    picture(page, "prompt-set")
    with page.expect_download() as download:
        page.locator("#set-result a").get_by_text("answers.csv").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8-sig"))))
    assert [(row["number"], row["name"]) for row in rows[3:5]] == [("1", "min_p"), ("3", "greedy")]
    assert rows[4]["prompt"] == MARKUP
    page.locator("#delete-set").click()
    page.locator("#sure-set").click()
    page.locator("#deleted-set .ts-good").wait_for()


@pytest.mark.ci
@pytest.mark.browser
def test_a_set_is_stopped_and_keeps_what_is_answered(accordion, patient_model, tmp_path):
    path, page = tmp_path / "long.txt", accordion
    path.write_text("how to make tea\n" * 3)
    _ask(page, patient_model, path, 8000)
    page.locator("#set-stop:enabled").click()
    page.locator("#set-progress").get_by_text("Stopped. Nothing was saved.").or_(
        page.locator("#set-result").get_by_text("The prompt set was stopped early")
    ).wait_for()
    page.locator("#set-start:enabled").wait_for()


def test_on_a_space_a_set_needs_a_person_and_is_theirs_alone(space):
    ada, grace = (Visitor(space, sub, token=space.token) for sub in ("5e7ada0001", "5e79race02"))
    nobody = Visitor(space)
    path = ada.upload("prompts.txt", b"tea?\nhow to make tea\n").json()[0]
    entry = entry_of(space, "start_set")
    data = {"compare-model": space.model, "compare-length": 4}
    refused = nobody.call(entry, data)
    assert not refused["success"] and "Sign in with Hugging Face to do this" in refused["output"]["error"]
    assert ada.call(entry, data | {"set-file": file_data(path)})["success"]
    tick, listed = entry_of(space, "tick_set"), entry_of(space, "refresh_sets")
    while "ts-means" not in (told := ada.predict(tick, [""]).raise_for_status().text):
        assert "ts-bad" not in told
        time.sleep(0.05)
    assert "2 of 2" in str(ada.predict(listed, [None]).json()["data"])
    assert "of 2" not in str(grace.predict(listed, [None]).json()["data"])
    assert "of 2" not in str(grace.predict(tick, [""]).json()["data"])
    (identity,) = [path.name for path in (space.log.parent / "home" / ada.sub / "prompt-sets").iterdir()]
    theft = grace.call(entry_of(space, "show_set"), [identity])
    assert not theft["success"]
