"""A machine is rented at the price that a person said yes to, or not at all: then they are asked again."""

import time
from types import SimpleNamespace

import pytest

from core.errors import UserError
from finetune.cli import jobs as job_shell
from finetune.config.run_config import load_yaml, to_yaml
from finetune.launch.follow import follow as job_follow
from finetune.launch.jobs import launcher as jobs
from finetune.plan.prepare import import_data
from finetune.runs.run import Run, list_runs
from tests.hub import jobs_routes
from tests.hub.standin import TOKEN
from ui.train import form, run_view, where_to_run
from ui.train import tab as train_tab

pytestmark = pytest.mark.matrix

CHEAP, DEAR, HALF_A_CENT = 16667, 33333, 16750
"""Millionths of a dollar a minute: 1.00, 2.00 and 1.005 dollars an hour."""


@pytest.fixture
def charge(monkeypatch):
    """Let a10g-small cost so much from now on; None: nobody can rent it."""

    known = list(jobs_routes.HARDWARE)

    def now(price):
        others = [row for row in known if row[0] != "a10g-small"]
        mine = [(*row[:-1], price) for row in known if row[0] == "a10g-small" and price is not None]
        monkeypatch.setattr(jobs_routes, "HARDWARE", others + mine)

    return now


@pytest.fixture
def ended(hub, renter, recipe):
    """A run whose job has ended, to be gone on with."""
    run = Run(renter.runs / jobs.JobsLauncher("a10g-small", "2h").start(recipe, renter))
    hub.jobs.newest.end("ERROR", "Job timeout")
    jobs.sync(run, renter)
    return run


def agreed_at(usd_per_hour):
    return jobs.JobsLauncher("a10g-small", "2h", agreed=usd_per_hour)


@pytest.mark.parametrize(
    ("price", "code", "parts"),
    [
        (DEAR, "job.price_changed", ["$1.00", "$2.00", "a10g-small", "confirm again"]),
        (HALF_A_CENT, "job.price_changed", ["$1.00", "$1.005"]),
        (8333, "job.price_changed", ["$1.00", "$0.50"]),
        (None, "job.not_for_rent", ["$1.00", "a10g-small", "Choose one of: cpu-basic, t4-small, a10g-largex2."]),
    ],
)
def test_a_machine_at_another_price_is_not_rented(hub, renter, recipe, charge, price, code, parts):
    charge(price)
    with pytest.raises(UserError) as caught:
        agreed_at(1.0).start(recipe, renter)
    assert caught.value.code == code
    assert [part for part in parts if part not in str(caught.value)] == [], str(caught.value)
    assert not hub.jobs.all and list_runs(renter) == [] and "commit" not in hub.kinds()


@pytest.mark.parametrize("price", [DEAR, None])
def test_nor_is_one_whose_price_changed_while_data_was_sent(hub, renter, recipe, charge, price):
    def meanwhile(progress):
        if progress.done == 2:
            charge(price)

    for launcher in (agreed_at(1.0), jobs.JobsLauncher("a10g-small", "2h")):
        charge(CHEAP)
        with pytest.raises(UserError) as caught:
            launcher.start(recipe, renter, progress=meanwhile)
        assert caught.value.code in ("job.price_changed", "job.not_for_rent") and "$1.00" in str(caught.value)
    assert hub.kinds().count("commit") == 2, "it was sent before"
    assert "job_start" not in hub.kinds() and not hub.jobs.all
    assert list_runs(renter) == [] and not list(renter.runs.glob("r*"))


def test_a_refused_price_leaves_a_run_that_was_to_go_on_as_it_was(hub, renter, ended, charge):
    before = {path.name: path.read_bytes() for path in ended.folder.iterdir() if path.is_file()}
    charge(DEAR)
    with pytest.raises(UserError) as caught:
        agreed_at(1.0).resume(ended, renter)
    assert caught.value.code == "job.price_changed" and len(hub.jobs.all) == 1
    assert before == {path.name: path.read_bytes() for path in ended.folder.iterdir() if path.is_file()}
    agreed_at(2.0).resume(ended, renter)
    assert len(hub.jobs.all) == 2 and jobs.job_of(ended).usd_per_hour == pytest.approx(2)


def test_the_price_that_the_shell_told_is_the_one_that_is_rented_at(hub, renter, recipe, charge, capsys, monkeypatch):
    told = jobs.estimate

    def and_then_it_changes(*asked):
        charge(DEAR)
        return told(*asked)

    monkeypatch.setattr(jobs, "estimate", and_then_it_changes)
    with pytest.raises(UserError) as caught:
        job_shell.start_job(recipe, renter, "a10g-small", "2h", lambda progress: None)
    assert "$1.00 an hour" in capsys.readouterr().err
    assert caught.value.code == "job.price_changed" and not hub.jobs.all


class Page:
    """The page's own handlers as one browser tab calls them."""

    def __init__(self, config):
        place = {"where": "jobs", "flavor": "a10g-small", "timeout": "2h"}
        self.fields = {**place, "datasets": [config.stages[0].data[0].dataset], **form.fill(config)}

    def call(self, handler, *values, **named):
        request = SimpleNamespace(headers={"accept-language": "en"}, session_hash="tab")
        return list(handler(request, None, None, *values, **named))[-1]

    def start(self):
        return self.call(train_tab.start, **self.fields)

    def rent(self, agreed):
        return self.call(train_tab.rent, agreed=agreed, **self.fields)


@pytest.fixture
def page(renter, recipe, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(job_follow, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(where_to_run, "_known", {})
    return Page(load_yaml(to_yaml(import_data(recipe, renter))))


def let_it_end(hub, owner):
    """So that whoever follows it comes to an end, too."""
    hub.jobs.newest.end("CANCELED")
    for run in list_runs(owner):
        while run.alive():
            time.sleep(0.05)
        jobs.follow(run, owner).join()


def test_on_the_page_a_changed_price_is_told_and_asked_about_again(hub, renter, page, charge):
    offer = page.start()
    assert "up to $2.00" in offer["rent"]["value"] and offer["agreed"].usd_per_hour == pytest.approx(1, rel=0.01)
    charge(DEAR)
    again = page.rent(offer["agreed"])
    assert "from $1.00 to $2.00 an hour" in again["answer"] and "$4.00" in again["answer"]
    assert again["rent"]["visible"] and "up to $4.00" in again["rent"]["value"] and not hub.jobs.all
    page.rent(again["agreed"])
    (run,) = list_runs(renter)
    assert len(hub.jobs.all) == 1 and jobs.job_of(run).usd_per_hour == pytest.approx(2)
    let_it_end(hub, renter)


def test_on_the_page_a_machine_that_is_gone_is_refused_and_the_list_is_asked_for_anew(hub, renter, page, charge):
    agreed = page.start()["agreed"]
    assert "a10g-small" in str(where_to_run.offer(renter, None, [], {})["flavor"]["choices"])
    charge(None)
    with pytest.raises(Exception, match="is no longer available"):
        page.rent(agreed)
    assert not hub.jobs.all
    assert "a10g-small" not in str(where_to_run.offer(renter, None, [], {})["flavor"]["choices"])


def test_on_the_page_going_on_asks_again_too(hub, renter, ended, page, charge):
    *_, agreed = page.call(run_view.resume_run, ended.id, "1h")
    charge(DEAR)
    told, yes, again = page.call(run_view.rent_again, agreed, ended.id, "1h")
    assert "from $1.00 to" in told and "up to $2.00" in yes["value"] and len(hub.jobs.all) == 1
    page.call(run_view.rent_again, again, ended.id, "1h")
    assert len(hub.jobs.all) == 2 and jobs.job_of(ended).usd_per_hour == pytest.approx(2)
    let_it_end(hub, renter)


@pytest.mark.parametrize("agreed", [None, "a" * 64, {"wish": "", "usd_per_hour": 9}, ["x"]])
def test_what_nobody_was_asked_for_is_no_yes(renter, page, agreed):
    with pytest.raises(Exception, match="changed after the checks"):
        page.rent(agreed)
