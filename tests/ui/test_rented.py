"""A run on a rented machine, from the page: the price is told and agreed to, the job is followed until it is done."""

import json
import os
import re
import subprocess
import sys

import pytest
from playwright.sync_api import expect

from tests.ui.conftest import picture
from tests.ui.hub_models import UPLOAD

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def base(hub_process, tiny_model):
    """The tiny model where a job can reach it."""
    name = f"{hub_process.user}/tiny-for-jobs"
    environment = {**os.environ, **hub_process.environment}
    subprocess.run([sys.executable, "-c", UPLOAD, name, tiny_model], env=environment, check=True)
    return name


@pytest.fixture
def rows_file(tmp_path):
    path = tmp_path / "few.json"
    path.write_text(json.dumps([{"instruction": f"{number}?", "output": f"{number}."} for number in range(8)]))
    return path


def test_a_job_is_priced_agreed_to_and_followed_until_it_is_done(tab, base, rows_file):
    tab.locator("#upload input[type=file]").set_input_files(rows_file)
    expect(tab.locator("#dataset .ts-title")).to_contain_text("few.json")
    tab.get_by_role("tab", name="Fine-tune", exact=True).click()
    expect(tab.locator("#train-on")).to_contain_text("few.json")
    tab.locator("#knob-model input").fill(base)
    tab.locator("#knob-limits-max_length input").fill("64")
    choose_a_machine(tab)
    agree(tab)
    follow(tab)


def choose_a_machine(tab):
    tab.locator("#place").get_by_label("A rented GPU").check()
    expect(tab.locator("#flavours .ts-chosen")).to_contain_text("a10g-small")
    expect(tab.locator("#flavours .ts-chosen")).to_contain_text("$1.00/h")
    expect(tab.locator("#flavours .ts-chosen")).to_contain_text("rough")
    tab.locator("#timeout input, #timeout textarea").first.fill("90m")


def agree(tab):
    """Nothing is rented before the yes, and not for another wish than the one that was looked at."""
    tab.locator("#start").click()
    expect(tab.locator("#rent")).to_contain_text("$1.50 at most")
    expect(tab.locator("#offer")).to_contain_text("HF_TOKEN")
    assert tab.locator("#offer li").count() >= 6
    picture(tab, "rent")
    tab.locator("#timeout input, #timeout textarea").first.fill("2h")
    tab.locator("#rent").click()
    tab.get_by_text("changed after the checks").wait_for()
    tab.locator("#start").click()
    expect(tab.locator("#rent")).to_contain_text("$2.00 at most")
    tab.locator("#rent").click()


def follow(tab):
    tab.locator("#train-answer .ts-good").get_by_text("rented machine").wait_for()
    run = re.search(r"r\d+-\d+-\w+", tab.locator("#train-answer").text_content()).group()
    expect(tab.locator("#run-state code")).to_have_text(run)
    expect(tab.locator("#run-state .ts-rented a")).to_contain_text("Job ")
    tab.locator("#run-state .ts-is-done").wait_for()
    expect(tab.locator("#run-state .ts-stage")).to_have_text("completed")
    expect(tab.locator("#run-state .ts-cost")).to_contain_text("$2.00 at most")
    expect(tab.locator("#rent")).to_be_hidden()
    picture(tab, "job")
