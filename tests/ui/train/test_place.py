"""Where a run shall run: what decides about machines, prices and the yes to them, and what is shown of a job."""

import json
from types import SimpleNamespace

import pytest

from core.errors import UserError
from core.words import LOCALES, say, speaking
from core.workspace import Owner
from finetune.config.run_config import load_yaml, to_yaml, validate
from finetune.launch.jobs.checks import Check
from finetune.launch.jobs.estimate import JobEstimate
from finetune.launch.jobs.flavors import FALLBACK
from finetune.plan.prepare import import_data
from finetune.runs.job_record import JobRecord, save
from finetune.runs.run import create
from tests.tiny.training import make_config, write_data
from ui.parts.views import render
from ui.train import follow, form, jobs, run_view, where_to_run
from ui.train import tab as train_tab
from ui.web.handler import Caller

MARKUP = "<img src=x onerror=alert(1)>"
CONFIG = {"stages": [{"objective": "sft", "data": [{"dataset": "ab" * 32}]}]}


@pytest.fixture
def job_run(owner):
    """A run whose job is at work as far as is known here; nobody is logged in, so nobody asks the Hub."""
    run = create(validate(CONFIG), owner)
    record = JobRecord("ab" * 12, "http://hub/jobs/1", "ada", "a10g-small", 1.0, 7200, 1, "ada/in", "ada/out")
    save(run, JobRecord(**{**vars(record), "stage": "RUNNING", "running_secs": 1800}))
    run.log.write("queued")
    return run


def test_without_a_token_there_is_one_sentence_and_no_machine(owner, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    offer = where_to_run.offer(owner, None, [], {})
    assert offer["table"] == render("note", kind="ts-warn", title="", text=say("job.no_token"))
    assert (offer["machine"]["visible"], offer["rent"]["visible"]) == (False, False)


def test_without_the_hub_there_is_one_sentence(owner):
    said = where_to_run.offer(Owner("local", "hf_some_token"), None, [], {})["table"]
    assert said == render("note", kind="ts-warn", title="", text=say("job.offline"))


@pytest.mark.parametrize(("chosen", "taken"), [("t4-small", "t4-small"), (None, "a10g-small"), ("gone", "a10g-small")])
def test_the_machine_is_the_chosen_one_else_the_usual(chosen, taken):
    assert where_to_run.usual(list(FALLBACK), chosen) == taken


def test_where_the_usual_machine_is_not_for_rent_the_cheapest_with_a_gpu_is_taken():
    left = [one for one in FALLBACK if one.name != where_to_run.USUAL_FLAVOR]
    assert where_to_run.usual(left, None) == "t4-small"
    assert where_to_run.usual([], None) is None


def test_a_form_that_says_too_little_still_shows_prices_and_what_it_lacks(owner):
    rough, why = where_to_run.guesses(owner, list(FALLBACK), [], {})
    table = where_to_run.flavor_table(list(FALLBACK), "t4-small", rough, why)
    assert rough == {} and say("page.choose_data").split('"')[0] in table
    assert table.count("<tr") == len(FALLBACK) + 1 and "$1.00/h" in table and table.count("ts-chosen") == 1


def test_the_bound_is_the_whole_time_at_the_machines_price():
    machine = next(one for one in FALLBACK if one.name == "a10g-large")
    offer = where_to_run.Offer([Check("x", None, MARKUP)], machine, 5400, JobEstimate(600, 0.25), [])
    assert offer.most == pytest.approx(2.25)
    for language in LOCALES:
        with speaking(language):
            shown = where_to_run.offer_html(offer)
            assert "$2.25" in shown and "$0.25" in shown and "HF_TOKEN" in shown and "<img" not in shown
            assert "$2.25" in where_to_run.confirmation(offer)["value"]


@pytest.mark.parametrize("changed", [("t4-small", "2h", ["a"], 1), ("l4x1", "3h", ["a"], 1), ("l4x1", "2h", ["b"], 1)])
def test_a_yes_is_to_one_wish_only(changed):
    agreed = where_to_run.fingerprint("l4x1", "2h", ["a"], 1)
    assert agreed == where_to_run.fingerprint("l4x1", "2h", ["a"], 1) != where_to_run.fingerprint(*changed)


def test_the_shells_command_says_the_place_that_was_chosen():
    assert where_to_run.options(where_to_run.HERE, "t4-small", "2h") == ""
    assert (
        where_to_run.options(where_to_run.RENTED, "t4-small", " 90m ") == " --on jobs --flavor t4-small --timeout 90m"
    )
    assert (
        where_to_run.options(where_to_run.RENTED, None, "2h; rm -r /")
        == " --on jobs --flavor a10g-small --timeout '2h; rm -r /'"
    )
    for language in LOCALES:
        with speaking(language):
            said = say("page.command_text", place=where_to_run.options(where_to_run.RENTED, "t4-small", "2h"))
            place_of_it = "config.yaml --on jobs --flavor t4-small --timeout 2h"
            assert said.endswith(f"start {place_of_it}") and f"check {place_of_it}\n" in said


@pytest.mark.parametrize(("processes", "told"), [(2, 1), (1, 0)])
def test_a_check_of_this_machine_tells_how_several_processes_are_started(owner, tmp_path, tiny_model, processes, told):
    changes = {"compute__device": "cpu", "compute__processes": processes}
    config = import_data(make_config(tiny_model, write_data(tmp_path / "rows.json"), **changes), owner)
    request = SimpleNamespace(headers={"accept-language": "en"}, session_hash="tab")
    place = {"where": where_to_run.HERE, "flavor": None, "timeout": ""}
    fields = {"datasets": [config.stages[0].data[0].dataset], **form.fill(load_yaml(to_yaml(config)))}
    shown = list(train_tab.check(request, None, None, **place, **fields))[-1]["answer"]
    assert "Check passed" in shown
    assert shown.count("accelerate launch --multi_gpu --num_processes 2") == told


@pytest.mark.parametrize(("amount", "shown"), [(0, "$0.00"), (0.0123, "$0.012"), (0.5, "$0.50"), (12.3, "$12.30")])
def test_money_is_readable(amount, shown):
    assert jobs.usd(amount) == shown


def test_the_line_of_runs_counts_jobs_with_their_machine_and_cost(owner, job_run):
    (active,) = follow.active_runs(owner)
    assert (active.id, active.flavor, active.cost) == (job_run.id, "a10g-small", "$0.50")
    assert "a10g-small · $0.50" in render("strip", runs=[active])


def test_a_job_shows_its_link_stage_cost_bound_and_machine(owner, job_run):
    (job_run.folder / "metrics.jsonl").write_text(
        json.dumps({"cpu_usage_pct": 37, "gpus": {"a": {"utilization": 81, "memory_used_bytes": 5e9}}}) + "\n{half"
    )
    html = run_view._view(Caller(owner, "en", "tab"), job_run.id, None)["state"]
    assert 'href="http://hub/jobs/1"' in html and say("page.stage.running") in html
    assert say("page.cost_so_far", usd="$0.50", most="$2.00", limit="2 h 00 min") in html
    assert "GPU 81 %" in html and "CPU 37 %" in html


def test_news_of_a_job_is_shown_and_no_news_is_not_sent(owner, job_run):
    caller = Caller(owner, "en", "tab")
    first = run_view._view(caller, job_run.id, None)
    assert run_view._view(caller, job_run.id, first["seen"]) == {}
    (job_run.folder / "metrics.jsonl").write_text('{"cpu_usage_pct": 1}\n')
    second = run_view._view(caller, job_run.id, first["seen"])
    assert second["seen"] != first["seen"] and "picker" in first and "picker" not in second


def test_every_stage_of_a_job_has_its_word():
    for stage in jobs.STAGES:
        assert say(f"page.stage.{stage.lower()}")


def test_runs_that_arrive_from_elsewhere_fill_an_empty_list(owner, job_run, monkeypatch):
    monkeypatch.setitem(jobs._lookups, owner.runs, jobs.JobLookup(arrivals=1))
    caller = Caller(owner, "en", "tab")
    view = run_view._view(caller, None, "")
    assert view["picker"]["value"] == job_run.id
    assert run_view._view(caller, None, view["seen"]) == {}


def test_nobody_without_a_token_asks_the_hub_for_jobs(owner, job_run):
    jobs.find_again(owner)
    jobs.keep_up(job_run, owner)
    assert owner.runs not in jobs._lookups


def test_a_kind_is_refused_that_there_is_not():
    from ui.publish.request import Order

    with pytest.raises(UserError) as error:
        Order.typed("everything")
    assert error.value.code == "kinds.unknown"
