"""However a job ends or gets lost, the run says which way, and the next try works. These jobs wait and never train."""

import json

import pytest
from markupsafe import escape

from core.errors import UserError
from core.words import say
from core.workspace import Owner
from finetune.launch.follow import api as job_api
from finetune.launch.follow import follow as job_follow
from finetune.launch.follow import sync as job_sync
from finetune.launch.follow.lines import to_line
from finetune.launch.jobs import launcher as jobs
from finetune.runs.job_record import locked, update
from finetune.runs.run import Run, list_runs
from tests.hub.standin import USER
from ui.train import run_view
from ui.web.handler import Caller

pytestmark = pytest.mark.matrix

LAUNCHER = jobs.JobsLauncher("a10g-small", "2h")


@pytest.fixture
def run(hub, renter, recipe):
    """A run whose job waits for its machine."""
    return Run(renter.runs / LAUNCHER.start(recipe, renter))


@pytest.fixture
def job(hub, run):
    return hub.jobs.newest


def work(job, *events, ending=None):
    """Let a job say that it runs, tell events and end, without a process."""
    job.started, job.stage = job.created, "RUNNING"
    for number, event in enumerate(events, start=1):
        job.say(to_line({"t": 1.0, **event}, number))
    if ending:
        job.end(*ending)


def reason(run, renter):
    jobs.sync(run, renter)
    jobs.sync(run, renter)
    endings = [event for event in run.events()[0] if event["type"] in ("failed", "stopped", "done")]
    assert len(endings) == 1, "the ending is written once"
    return endings[0].get("reason")


UPLOADED = ({"type": "progress", "phase": "loading"}, {"type": "uploaded", "step": 40})


def test_a_job_that_waits_is_queued_and_one_that_installs_says_so(run, job, renter):
    jobs.sync(run, renter)
    assert run.status().status == "queued" and jobs.job_of(run).stage == "SCHEDULING"
    work(job)
    jobs.sync(run, renter, log=False)
    assert run.progress().phase["phase"] == "renting"
    assert run.status().status == "running"


@pytest.mark.parametrize(
    ("ending", "wanted"),
    [
        (("CANCELED", None), "cancelled"),
        (("ERROR", "Job timeout"), "timeout"),
        (("ERROR", "OOMKilled"), "error"),
        (("DELETED", None), "vanished"),
    ],
)
def test_the_ways_to_end_are_told_apart_and_say_where_to_go_on(run, job, renter, ending, wanted):
    work(job, *UPLOADED, ending=ending)
    assert reason(run, renter) == wanted
    status = run.status()
    assert status.status == "failed" and "step 40" in status.error and "Resume" in status.error


def test_a_job_that_the_hub_forgot_has_vanished(hub, run, job, renter):
    jobs.sync(run, renter)
    hub.jobs.lose(job)
    assert reason(run, renter) == "vanished"
    assert job.id in run.status().error


def test_a_time_limit_is_known_by_the_seconds_too(run, job, renter):
    work(job, ending=("CANCELED", None))
    job.started = job.finished - 7200
    assert reason(run, renter) == "timeout"


@pytest.mark.parametrize("fault", [{"status": 401}, {"status": 403}, {"status": 500}, {"cut": True}])
def test_a_hub_that_does_not_tell_leaves_the_run_as_it_was(hub, run, job, renter, fault):
    jobs.sync(run, renter)
    hub.fail("job_inspect", times=20, **fault)
    hub.fail("job_list", times=20, **fault)
    with pytest.raises(UserError) as caught:
        jobs.sync(run, renter)
    assert str(caught.value) == jobs.job_of(run).problem
    assert run.status().status == "queued" and run.alive()
    hub.heal()
    jobs.sync(run, renter)
    assert jobs.job_of(run).problem is None


def test_a_passing_failure_is_not_even_noticed(hub, run, job, renter):
    hub.fail("job_inspect", times=2, status=503)
    jobs.sync(run, renter)
    assert jobs.job_of(run).stage == "SCHEDULING"


def test_a_job_whose_start_was_not_answered_is_found_by_its_label(hub, renter, recipe):
    hub.jobs.mute = True
    with pytest.raises(UserError) as caught:
        LAUNCHER.start(recipe, renter)
    assert caught.value.code == "job.unknown_start"
    (run,) = list_runs(renter)
    assert run.status().status == "queued" and jobs.job_of(run).id is None
    jobs.sync(run, renter)
    assert jobs.job_of(run).id == hub.jobs.newest.id
    with pytest.raises(UserError, match="still running"):
        LAUNCHER.resume(run, renter)
    assert len(hub.jobs.all) == 1


def test_a_start_that_never_arrived_is_told_and_can_be_tried_again(hub, renter, recipe, monkeypatch):
    monkeypatch.setattr(job_sync, "LATE_SECONDS", 0)
    hub.fail("job_start", cut=True)
    with pytest.raises(UserError) as caught:
        LAUNCHER.start(recipe, renter)
    assert caught.value.code == "job.unknown_start"
    (run,) = list_runs(renter)
    assert reason(run, renter) == "never_started"
    LAUNCHER.resume(run, renter)
    jobs.sync(run, renter)
    assert run.status().status == "queued" and jobs.job_of(run).attempt == 2


def test_a_refused_resume_leaves_the_run_as_its_last_job_did(hub, run, job, renter):
    work(job, *UPLOADED, ending=("ERROR", "Job timeout"))
    hub.fail("job_start", status=402, message="no credit left")
    with pytest.raises(UserError, match="no credit left"):
        LAUNCHER.resume(run, renter)
    assert run.status().status == "failed" and "no credit left" in run.status().error
    assert jobs.job_of(run).id == job.id
    LAUNCHER.resume(run, renter)
    assert jobs.job_of(run).attempt == 2 and run.alive()


def test_stopping_a_job_that_waits_cancels_it(hub, run, job, renter):
    jobs.launcher_of(run, renter).stop(run)
    assert job.stage == "CANCELED" and run.status().status == "stopped"
    with pytest.raises(UserError) as caught:
        LAUNCHER.stop(run, renter)
    assert caught.value.code == "run.not_alive"


def test_a_job_that_does_not_stop_when_asked_is_cancelled_after_its_grace(hub, run, job, renter, monkeypatch):
    work(job, *UPLOADED)
    LAUNCHER.stop(run, renter)
    assert hub.content(f"{USER}/tunescope-run-{run.id}", "control/stop-1") == b"stop\n"
    assert job.stage == "RUNNING" and run.alive()
    monkeypatch.setattr(job_sync, "GRACE_SECONDS", -1)
    jobs.sync(run, renter, log=False)
    assert job.stage == "CANCELED" and run.status().status == "stopped"


def test_a_run_is_done_only_once_its_result_is_here_and_whole(hub, run, job, renter):
    results = jobs.job_of(run).results
    repo = hub.repos["models", results]
    files = {"model/adapter_config.json": b"{}", "model/adapter_model.safetensors": b"weights" * 99}
    repo.add_commit({path: hub.blobs.entry(path, content) for path, content in files.items()}, "Result")
    work(job, {"type": "started", "step": 0, "steps": 5}, {"type": "done", "step": 5}, ending=("COMPLETED", None))
    for fault in ({"corrupt": True}, {"status": 500}):
        hub.fail("file", path="adapter_model", times=20, **fault)
        with pytest.raises(UserError):
            jobs.sync(run, renter)
        assert run.progress().ending is None and not run.model.exists() and not list(run.folder.glob(".*part"))
        being_fetched(run)
        hub.heal()
    jobs.sync(run, renter)
    assert run.status().status == "done"
    assert (run.model / "adapter_model.safetensors").read_bytes() == files["model/adapter_model.safetensors"]


def being_fetched(run):
    """Neither failed nor killed: what is elsewhere is named, with what stands in the way."""
    status, problem = run.status(), jobs.job_of(run).problem
    assert status.status == "fetching" and problem and problem in status.error and "killed" not in status.error
    html = run_view._view(Caller(Owner("local"), "en", "tab"), run.id, None)["state"]
    assert say("run.status.fetching") in html and html.count(str(escape(problem))) == 1 and "ts-bad" not in html


def test_a_job_whose_log_cannot_be_read_has_not_failed_yet(hub, run, job, renter):
    work(job, *UPLOADED, ending=("ERROR", "OOMKilled"))
    hub.fail("job_logs", times=20, status=500)
    with pytest.raises(UserError):
        jobs.sync(run, renter)
    being_fetched(run)
    hub.heal()
    assert reason(run, renter) == "error" and run.status().status == "failed"


def test_a_log_that_is_lost_is_made_good_from_the_uploads(hub, run, job, renter):
    results = hub.repos["models", jobs.job_of(run).results]
    events = [{"t": 1.0, "type": "started", "step": 0, "steps": 9}, {"t": 2.0, "type": "uploaded", "step": 3}]
    text = "".join(to_line(event, number) + "\n" for number, event in enumerate(events, start=1)).encode()
    path = "attempts/1/events.txt"
    results.add_commit({path: hub.blobs.entry(path, text)}, "Step 3")
    work(job, ending=("ERROR", "node lost"))
    assert reason(run, renter) == "error"
    assert "step 3" in run.status().error and run.progress().steps == 9


def test_two_who_read_the_same_log_write_each_line_once(run, job, renter):
    events = [{"type": "train", "step": step, "loss": 1.0, "tokens_per_s": 1.0} for step in range(1, 6)]
    work(job, *events)
    job.say("a line for people")
    lines = [line for _, line in job.lines]
    with locked(run):
        update(run, id=job.id)
    for part in (lines[:3], lines, lines[1:]):
        job_sync.feed(run, renter, job.id, part)
    written = [event["step"] for event in run.events()[0] if event["type"] == "train"]
    assert written == [1, 2, 3, 4, 5]
    assert run.log_path.read_text() == "a line for people\n"


def test_a_follower_goes_on_with_the_token_of_the_next_sign_in(hub, run, job, renter, monkeypatch):
    monkeypatch.setattr(job_follow, "RETRY_SECONDS", 0.05)
    work(job, *UPLOADED, ending=("CANCELED", None))
    follower = jobs.follow(run, Owner("local", "hf_" + "ended" * 5))
    while jobs.job_of(run).problem is None:
        assert follower.is_alive()
    assert jobs.follow(run, renter) is follower
    follower.join(60)
    assert not follower.is_alive() and run.status().status == "failed"


def test_a_job_of_somebody_else_is_not_taken_for_a_vanished_one(hub, run, job, renter):
    stranger = Owner("local", hub.add_user("mallory"))
    job_api._known.clear()
    with pytest.raises(UserError) as caught:
        jobs.sync(run, stranger)
    assert caught.value.code == "job.no_right"
    assert run.alive() and json.loads((run.folder / "job.json").read_text())["stage"] == "SCHEDULING"
