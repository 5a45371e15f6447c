"""The Evaluate tab: goes on without its browser tab, is found again, is its owner's alone, and shows text as text."""

import re
import shutil
import threading
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from core.errors import UserError
from core.workspace import Owner, new_run_id
from finetune.evaluation.report import load
from finetune.evaluation.row_sets import EvaluationRequest
from finetune.runs.run import Run
from tests.evaluations import make_report, one_set
from tests.hub.finished_run import make_finished_run
from tests.tiny.evaluating import trained
from tests.ui.conftest import picture
from tests.ui.people import Visitor, entry_of
from tests.ui.test_loop import MARKUP, open_tab
from ui.compare import tab as compare_tab
from ui.evaluate import tab as evaluate_tab
from ui.evaluate.view import nothing_yet, rows_of, shown
from ui.parts.background import Background, OwnerJob, failed
from ui.parts.job import Job
from ui.web.handler import Caller


@pytest.fixture(scope="module")
def learned(tmp_path_factory, tiny_model):
    """A workspace with a run that really learned, to be copied."""
    folder = tmp_path_factory.mktemp("learned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESCOPE_HOME", str(folder / "home"))
        patch.setenv("TUNESCOPE_CACHE", str(folder / "cache"))
        return trained(Owner("local"), tiny_model, folder / "run")


def copied(run, owner):
    """The run and its data in another workspace, as the newest one there."""
    shutil.copytree(run.folder.parents[1] / "datasets", owner.datasets, dirs_exist_ok=True)
    return Run(Path(shutil.copytree(run.folder, owner.runs / new_run_id())))


@pytest.fixture
def run(learned, owner):
    return copied(learned, owner)


def test_each_set_has_its_loss_drawn_and_its_perplexity_beside(owner, run):
    loss, perplexity, general, _ = rows_of(make_report(run))
    assert (loss.title, loss.measure, general.title) == ("held-out rows", "loss per token", "general text")
    assert loss.clear and loss.difference.mean == "−0.400" and loss.ngram.mean == "3.500"
    assert [one.number for one in loss.whiskers] == [one.number for one in general.whiskers] == [1, 2]
    (ratio,) = perplexity.whiskers
    assert ratio.right < perplexity.reference, "all of it is below × 1"
    assert perplexity.difference.mean == "× 0.670" and float(perplexity.base.mean) > float(perplexity.tuned.mean)


def test_everything_in_a_report_is_text(owner, run):
    sample = dict.fromkeys(("prompt", "reference", "base", "tuned"), MARKUP)
    make_report(run, one_set("held_out", 0.1), one_set("general", 0.1, name=MARKUP), samples=[sample])
    html = shown(owner, run.id)
    assert "<img" not in html and html.count("&lt;img") >= 6


def test_what_cannot_be_shown_is_said(owner, run):
    assert shown(owner, None) == shown(owner, run.id) == nothing_yet()
    make_report(run)
    assert nothing_yet() != shown(owner, run.id)
    (run.folder / "evaluation.json").write_text("[]")
    assert "is damaged" in shown(owner, run.id)
    with pytest.raises(UserError):
        shown(Owner("somebody"), run.id)


def test_one_piece_of_work_at_a_time_for_each_owner():
    works, ada, grace = Background("evaluate.one_at_a_time"), *(Caller(Owner(key), "en", "tab") for key in "ab")
    works.begin(ada, "first", lambda job: job.stop.wait())
    with pytest.raises(UserError) as refused:
        works.begin(ada, "second", lambda job: None)
    assert refused.value.code == "evaluate.one_at_a_time" and works.of(grace) is None
    works.begin(grace, "hers", lambda job: None)
    assert not works.stop(grace) or works.of(grace).job.wait(10)
    before = works.of(ada).stamp
    assert works.stop(ada) and works.of(ada).job.wait(10) and works.of(ada).stamp != before
    works.begin(ada, "second", lambda job: None)
    assert works.of(ada).id == "second"


def test_a_bug_gets_an_id_once(caplog):
    def broken(job):
        raise ZeroDivisionError

    known = OwnerJob("x", Job().start(broken))
    known.job.wait(10)
    assert failed(known) == failed(known) and "ts-bad" in failed(known)
    assert len([record for record in caplog.records if "broken" in record.message]) == 1


@pytest.mark.ci
def test_an_evaluation_waits_for_the_comparison_at_work_and_can_be_stopped_meanwhile(owner, run):
    caller, works = Caller(owner, "en", "a tab"), Background("evaluate.one_at_a_time")
    asked = EvaluationRequest("none", 10)
    with compare_tab.join(caller) as comparison:
        assert comparison.take(threading.Event())
        works.begin(caller, run.id, lambda job: evaluate_tab._work(run, asked, caller, job))
        known = works.of(caller)
        while known.alive and "Measuring the base" not in str(known.job.progress):
            time.sleep(0.05)
        assert not known.job.wait(1) and known.job.progress.text.startswith("Measuring the base"), "it waits"
        works.stop(caller)
        assert known.job.wait(60) and known.job.error.code == "evaluate.stopped"
    assert load(run) is None
    works.begin(caller, run.id, lambda job: evaluate_tab._work(run, asked, caller, job))
    assert works.of(caller).job.wait(60) and works.of(caller).job.error is None
    assert load(run)["run"] == run.id


@pytest.fixture(scope="module")
def local_run(app, learned):
    """A finished run in the page's own workspace, which is deleted afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESCOPE_HOME", str(app.log.parent / "home"))
        run = copied(learned, Owner("local"))
    yield run
    shutil.rmtree(run.folder)


@pytest.mark.browser
def test_a_run_is_measured_without_its_tab_and_found_again(local_run, tab, app):
    open_tab(tab, "Evaluate")
    expect(tab.locator("#evaluate-run input")).to_have_value(_named(local_run))
    tab.locator("#evaluate-start").click()
    tab.locator("#evaluate-stop:enabled").or_(tab.locator("#evaluate-result table")).first.wait_for()
    tab.goto("about:blank")
    tab.goto(app.url)
    open_tab(tab, "Evaluate")
    result = tab.locator("#evaluate-result")
    result.get_by_text("Better: on 10 held-out rows").wait_for()
    expect(result.locator("tbody tr")).to_have_count(4)
    expect(result.locator("svg circle")).to_have_count(6)
    expect(result.locator(".ts-sides")).to_have_count(4)
    picture(tab, "evaluate")
    tab.set_viewport_size({"width": 390, "height": 844})
    picture(tab, "evaluate-narrow")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def _named(run):
    return re.compile(run.id)


@pytest.mark.browser
def test_what_cannot_be_measured_is_said_on_the_page(local_run, tab):
    open_tab(tab, "Evaluate")
    expect(tab.locator("#evaluate-run input")).to_have_value(_named(local_run))
    tab.locator("#evaluate-rows input").fill("0")
    tab.locator("#evaluate-start").click()
    tab.get_by_text("Max rows is 0").wait_for()
    expect(tab.locator("#evaluate-start")).to_be_enabled()


def test_on_a_space_an_evaluation_is_its_owners_alone(space, tiny_model, monkeypatch):
    ada, grace = (Visitor(space, sub, token=space.token) for sub in ("5e7ada0077", "5e79race77"))
    monkeypatch.setenv("TUNESCOPE_HOME", str(space.log.parent / "home"))
    run = make_finished_run(Owner(ada.sub), tiny_model)
    make_report(run)
    start, show = entry_of(space, "start_evaluation"), entry_of(space, "show_evaluation")
    assert "ts-means" in str(ada.call(show, [run.id])["output"])
    for entry, values in ((show, [run.id]), (start, [run.id, "none", 20])):
        for other in (grace, Visitor(space)):
            said = other.call(entry, values)
            assert not said["success"] and "ts-means" not in str(said["output"])
    tick = entry_of(space, "tick_evaluation")
    assert "ts-means" not in grace.predict(tick, [""]).text
