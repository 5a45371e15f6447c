"""A run on a rented machine, from the page: the price is told and agreed to, the job is followed until it is done."""

import json
import re

import pytest
from playwright.sync_api import expect

from tests.hub.conftest import speak_to
from tests.ui.conftest import picture
from tests.ui.here import served
from tests.ui.test_loop import choose_only
from ui.parts import preload

pytestmark = [pytest.mark.browser, pytest.mark.ci]


@pytest.fixture(scope="module")
def base(hub_process, tiny_model):
    """The tiny model where a job can reach it."""
    return hub_process.add_model("tiny-for-jobs", tiny_model)


@pytest.fixture
def rows_file(tmp_path):
    path = tmp_path / "few-for-jobs.json"
    path.write_text(json.dumps([{"instruction": f"{number}?", "output": f"{number}."} for number in range(8)]))
    return path


def test_a_job_is_priced_agreed_to_followed_and_found_from_another_machine(tab, base, rows_file, elsewhere):
    """Slow: the job trains in a process of its own, and the page asks for news every few seconds."""
    tab.locator("#upload input[type=file]").set_input_files(rows_file)
    expect(tab.locator("#dataset .ts-title")).to_contain_text("few-for-jobs.json")
    tab.get_by_role("tab", name="Fine-tune", exact=True).click()
    choose_only(tab, "#train-on", "few-for-jobs.json")
    tab.locator("#knob-model input").fill(base)
    tab.locator("#knob-limits-max_length input").fill("64")
    choose_a_machine(tab)
    agree(tab)
    run = follow(tab)
    find_it(tab, elsewhere, run)


def choose_a_machine(tab):
    tab.locator("#place").get_by_label("Rented GPU").check()
    expect(tab.locator("#flavours .ts-chosen")).to_contain_text("a10g-small")
    expect(tab.locator("#flavours .ts-chosen")).to_contain_text("$1.00/h")
    expect(tab.locator("#flavours .ts-chosen")).to_contain_text("about ")
    tab.locator("#timeout input, #timeout textarea").first.fill("90m")


def agree(tab):
    """Nothing is rented before the yes, and not for another wish than the one that was looked at."""
    tab.locator("#start").click()
    expect(tab.locator("#rent")).to_contain_text("for up to $1.50")
    expect(tab.locator("#offer")).to_contain_text("HF_TOKEN")
    assert tab.locator("#offer li").count() >= 6
    picture(tab, "rent")
    tab.locator("#timeout input, #timeout textarea").first.fill("2h")
    tab.locator("#rent").click()
    tab.get_by_text("changed after the checks").wait_for()
    tab.locator("#start").click()
    expect(tab.locator("#rent")).to_contain_text("for up to $2.00")
    tab.locator("#rent").click()


def follow(tab):
    tab.locator("#train-answer .ts-good").get_by_text("rented machine").wait_for()
    run = re.search(r"r\d+-\d+-\w+", tab.locator("#train-answer").text_content()).group()
    expect(tab.locator("#run-state code")).to_have_text(run)
    expect(tab.locator("#run-state .ts-rented a")).to_contain_text("Job ")
    tab.locator("#run-state .ts-is-done").wait_for()
    expect(tab.locator("#run-state .ts-stage")).to_have_text("completed")
    expect(tab.locator("#run-state .ts-cost")).to_contain_text("max $2.00")
    expect(tab.locator("#rent")).to_be_hidden()
    picture(tab, "job")
    return run


@pytest.fixture
def elsewhere(hub_process, tmp_path, monkeypatch):
    """Another app, served by this process, with an empty workspace and the same person at the Hub."""
    speak_to(hub_process.stand_in, monkeypatch, tmp_path / "hf")
    monkeypatch.setenv("HF_TOKEN", hub_process.token)
    preload.warm_up()
    with served() as other:
        yield other


def find_it(tab, other, run):
    """The run and its result come to it by themselves."""
    tab.goto(other.url)
    tab.get_by_role("tab", name="Fine-tune", exact=True).click()
    expect(tab.locator("#run-state code")).to_have_text(run)
    tab.locator("#run-state .ts-is-done").wait_for()
    tab.goto("about:blank")
