"""Each call of a job meets each fault: one sentence or one more try, nothing half started or paid twice."""

import re
import threading
from functools import partial

import pytest

from core.errors import UserError
from core.hub import reach as the_hub
from core.hub import retries
from finetune.launch.follow import api as job_api
from finetune.launch.follow import sync as job_sync
from finetune.launch.follow.lines import to_line
from finetune.launch.jobs import launcher as jobs
from finetune.plan.prepare import import_data
from finetune.runs.run import Run, list_runs
from tests.hub import routes
from tests.hub.standin import TOKEN

pytestmark = pytest.mark.matrix

LAUNCHER = jobs.JobsLauncher("a10g-small", "2h")
LOOKS = ("whoami", "hardware", "info", "tree", "head", "file")
SENDS = ("create", "preupload", "lfs_batch", "lfs_put", "lfs_verify", "commit")
RENTS = "job_start"
HARMLESS = {"front", "harnesses"}
STATUSES = (401, 403, 404, 409, 412, 413, 429, 500)
UNSURE = (500, "cut", "html", "silent")
"""After these the Hub may have done it all the same."""
NO_FAULTS = {("create", 409), ("file", "html"), ("head", "html"), ("lfs_put", "html"), ("lfs_verify", "html")}
"""The client takes 409 for "it is there already" and looks; what a file or an upload is answered is not read."""
LOUD = (*STATUSES, "cut", "html")
FAULTS = (*LOUD, "silent")
QUIET = ("hardware", "create", "preupload", "lfs_batch", "commit", "job_inspect")
"""Calls on which the client itself sets no time limit: silence is tried quickly with these."""


@pytest.fixture(autouse=True)
def routes_as_they_were():
    kept = list(routes.ROUTES)
    yield
    routes.ROUTES[:] = kept


@pytest.fixture
def strike(hub, monkeypatch):
    """Let one kind of call meet a fault until `heal` is called."""
    held = []

    def begin(kind, fault, path=""):
        if fault == "html":
            answer_with_a_page(kind)
        elif fault == "silent":
            monkeypatch.setattr(retries, "patience", retries.Patience(answer=0.1, wait_scale=0.001))
            held.append(hub.fail(kind, path=path, hold=threading.Event(), cut=True, times=99).hold)
        else:
            hub.fail(kind, path=path, times=99, **({"cut": True} if fault == "cut" else {"status": fault}))

    yield begin
    for hold in held:
        hold.set()


def answer_with_a_page(kind):
    """Something else answers in the Hub's place: a proxy, a login page."""
    for number, (method, pattern, name, _) in enumerate(list(routes.ROUTES)):
        if name == kind:
            routes.ROUTES[number] = (method, pattern, name, a_page)


def a_page(call, **_):
    call.body()
    call.send(200, b"<html>Please sign in</html>", {"Content-Type": "text/html"})


@pytest.fixture
def heal(hub, monkeypatch):
    """The Hub answers as it should again, and nothing is remembered of before."""
    kept = list(routes.ROUTES)

    def back():
        for fault in hub.faults:
            if fault.hold:
                fault.hold.set()
        routes.ROUTES[:] = kept
        hub.heal()
        the_hub.forget()
        monkeypatch.setattr(retries, "patience", retries.Patience(wait_scale=0.001))
        monkeypatch.setattr(job_api, "_known", {})

    return back


def sentence(work, *arguments):
    """The one sentence a call ends in, and its code."""
    with pytest.raises(UserError) as caught:
        work(*arguments)
    said = str(caught.value)
    assert TOKEN not in said and "Traceback" not in said and "{" not in said and len(said) < 600
    return caught.value.code, said


def test_these_are_all_the_calls_of_a_start(hub, renter, recipe):
    LAUNCHER.start(recipe, renter)
    assert set(hub.kinds()) - HARMLESS == {*LOOKS, *SENDS, RENTS}


@pytest.mark.parametrize("kind", [*LOOKS, *SENDS])
def test_a_start_that_meets_a_fault_leaves_nothing_and_the_next_one_works(hub, renter, recipe, strike, heal, kind):
    recipe = import_data(recipe, renter)
    for fault in FAULTS if kind in QUIET else LOUD:
        if (kind, fault) in NO_FAULTS:
            continue
        strike(kind, fault)
        code, _ = sentence(LAUNCHER.start, recipe, renter)
        assert code.startswith(("job.", "models.", "core.")), (kind, fault)
        assert list_runs(renter) == [] and not list(renter.runs.glob("r*")) and not hub.jobs.all, (kind, fault)
        heal()
        forget_what_was_sent(hub)
    run_id = LAUNCHER.start(recipe, renter)
    assert [run.id for run in list_runs(renter)] == [run_id] and len(hub.jobs.all) == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_request_for_a_machine_that_meets_a_fault_is_paid_once(hub, renter, recipe, strike, heal, monkeypatch, fault):
    strike(RENTS, fault)
    code, said = sentence(LAUNCHER.start, recipe, renter)
    assert hub.kinds().count(RENTS) == 1, "never asked for twice by itself"
    heal()
    if fault not in UNSURE:
        assert code != "job.unknown_start" and list_runs(renter) == [] and not hub.jobs.all
        LAUNCHER.start(recipe, renter)
        return
    assert code == "job.unknown_start" and "Do not start the run again" in said
    monkeypatch.setattr(job_sync, "LATE_SECONDS", 0)
    (run,) = list_runs(renter)
    jobs.sync(run, renter)
    assert run.status().status == "failed" and not hub.jobs.all
    LAUNCHER.resume(run, renter)
    assert len(hub.jobs.all) == 1 and run.alive()


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"cut": True}])
def test_calls_that_are_safe_are_made_again_until_they_are_answered(hub, renter, recipe, fault):
    for kind in ("whoami", "hardware", "create", "preupload", "lfs_batch", "lfs_put", "commit"):
        hub.fail(kind, times=2, **fault)
    LAUNCHER.start(recipe, renter)
    assert len(hub.jobs.all) == 1
    for kind in ("job_inspect", "job_list"):
        hub.fail(kind, times=2, **fault)
    (run,) = list_runs(renter)
    jobs.sync(run, renter)
    hub.fail("job_cancel", times=2, **fault)
    LAUNCHER.stop(run, renter)
    assert hub.jobs.newest.stage == "CANCELED" and run.status().status == "stopped"


def forget_what_was_sent(hub):
    """So that every call of an upload is made again."""
    for path in hub.blobs.folder.iterdir():
        if not any(entry.sha256 == path.name for repo in hub.repos.values() for entry in repo.head.files.values()):
            path.unlink()


def test_an_answer_without_what_it_should_hold_is_a_sentence(hub, renter, recipe):
    for kind, status, answer in [("create", 409, b"{}"), ("hardware", 200, b"[{}]"), ("whoami", 200, b"[]")]:
        kept = list(routes.ROUTES)
        for number, (method, pattern, name, _) in enumerate(kept):
            if name == kind:
                routes.ROUTES[number] = (method, pattern, name, replying(status, answer))
        job_api._known.clear()
        assert sentence(LAUNCHER.start, recipe, renter)[0] == "job.strange"
        routes.ROUTES[:] = kept
    assert list_runs(renter) == [] and not hub.jobs.all


def replying(status, answer):
    def reply(call, **_):
        call.body()
        call.send(status, answer, {"Content-Type": "application/json"})

    return reply


@pytest.fixture
def run(hub, renter, recipe):
    """A run whose job is at work."""
    run = Run(renter.runs / LAUNCHER.start(recipe, renter))
    job = hub.jobs.newest
    job.started, job.stage = job.created, "RUNNING"
    job.say(to_line({"t": 1.0, "type": "started", "step": 0, "steps": 5}, 1))
    hub.heal()
    return run


NO_NEWS = {("job_inspect", 404), ("job_logs", 404), ("job_logs", "html"), ("job_logs", "cut")}
"""Then the list of jobs tells that it is there, or the log's uploaded events take the log's place."""


@pytest.mark.parametrize("fault", LOUD)
@pytest.mark.parametrize("kind", ["job_inspect", "job_logs"])
def test_asking_for_a_job_that_meets_a_fault_leaves_the_run_at_work(hub, run, renter, strike, heal, kind, fault):
    if kind == "job_logs":
        hub.jobs.newest.end("ERROR", "node lost")
    strike(kind, fault)
    sync = partial(jobs.sync, log=kind == "job_logs")  # the log of a job at work is read for five seconds
    if (kind, fault) in NO_NEWS:
        sync(run, renter)
    else:
        code, said = sentence(sync, run, renter)
        assert code.startswith("job.") and jobs.job_of(run).problem == said
    assert run.progress().ending is None or kind == "job_logs"
    heal()
    sync(run, renter)
    assert jobs.job_of(run).problem is None and len(hub.jobs.all) == 1
    assert run.alive() if kind == "job_inspect" else run.status().status == "failed"


@pytest.mark.parametrize("fault", LOUD)
def test_a_list_that_meets_a_fault_takes_no_job_for_gone(hub, run, renter, strike, heal, fault):
    hub.fail("job_inspect", status=404, times=99)
    strike("job_list", fault)
    assert sentence(jobs.sync, run, renter)[0].startswith("job.")
    assert sentence(jobs.attach, renter)[0].startswith("job.")
    assert run.alive() and jobs.job_of(run).stage == "SCHEDULING"
    heal()
    jobs.sync(run, renter, log=False)
    assert jobs.job_of(run).stage == "RUNNING"


@pytest.mark.parametrize("fault", LOUD)
def test_metrics_that_meet_a_fault_cost_nothing_but_themselves(hub, run, renter, strike, heal, fault):
    strike("job_metrics", fault)
    job_sync._sample(run, renter, jobs.job_of(run))
    jobs.sync(run, renter, log=False)
    assert run.alive() and jobs.job_of(run).problem is None


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["preupload", "commit"])
def test_a_stop_that_meets_a_fault_is_a_sentence_and_the_next_one_is_heard(hub, run, renter, strike, heal, kind, fault):
    strike(kind, fault)
    assert sentence(LAUNCHER.stop, run, renter)[0].startswith("job.")
    assert run.alive() and (jobs.job_of(run).asked_to_stop is not None) == (fault in UNSURE)
    heal()
    LAUNCHER.stop(run, renter)
    assert hub.content(jobs.job_of(run).results, "control/stop-1") == b"stop\n" and jobs.job_of(run).asked_to_stop


@pytest.mark.parametrize("fault", FAULTS)
def test_a_cancel_that_meets_a_fault_is_a_sentence_and_the_next_one_works(hub, run, renter, strike, heal, fault):
    hub.jobs.newest.stage = "SCHEDULING"
    strike("job_cancel", fault)
    if fault == "html":
        LAUNCHER.stop(run, renter)  # the client does not read what it is answered: a look tells that nothing came of it
        assert run.alive() and jobs.job_of(run).asked_to_stop and hub.jobs.newest.stage == "SCHEDULING"
    else:
        assert sentence(LAUNCHER.stop, run, renter)[0].startswith("job.")
        assert run.alive()
        heal()
        LAUNCHER.stop(run, renter)
        assert hub.jobs.newest.stage == "CANCELED" and run.status().status == "stopped"


@pytest.mark.parametrize("kind", ["info", "head", "file"])
@pytest.mark.parametrize("fault", LOUD)
def test_a_result_that_meets_a_fault_on_its_way_comes_whole_the_next_time(hub, run, renter, strike, heal, kind, fault):
    results = jobs.job_of(run).results
    files = {"model/adapter_config.json": b"{}", "model/adapter_model.safetensors": b"weights" * 99}
    repo = hub.repos["models", results]
    repo.add_commit({path: hub.blobs.entry(path, content) for path, content in files.items()}, "Result")
    hub.jobs.newest.say(to_line({"t": 2.0, "type": "done", "step": 5}, 2))
    hub.jobs.newest.end("COMPLETED")
    if fault == "html" and kind in ("head", "file"):
        pytest.skip("a page in a file's place has another hash: see test_jobs_ended")
    strike(kind, fault, path=re.escape(results) if fault == "html" else results)
    assert sentence(jobs.sync, run, renter)[0].startswith("job.")
    assert run.progress().ending is None and not run.model.exists() and not list(run.folder.glob(".*part"))
    heal()
    jobs.sync(run, renter)
    assert run.status().status == "done"
    assert (run.model / "adapter_model.safetensors").read_bytes() == files["model/adapter_model.safetensors"]
