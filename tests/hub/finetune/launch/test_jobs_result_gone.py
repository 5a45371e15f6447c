"""A job that is done and whose result somebody deleted has failed, for good; one that cannot be fetched now has not."""

import pytest

from core.errors import UserError
from core.words import say
from core.workspace import Owner
from finetune.launch.follow import follow as job_follow
from finetune.launch.follow.files import checkpoint_steps
from finetune.launch.follow.lines import to_line
from finetune.launch.jobs import launcher as jobs
from finetune.runs.run import Run
from ui.train import run_view
from ui.web.handler import Caller

pytestmark = pytest.mark.matrix

LAUNCHER = jobs.JobsLauncher("a10g-small", "2h")
ENDINGS = {
    "timeout": ("ERROR", "Job timeout"),
    "cancelled": ("CANCELED", None),
    "error": ("ERROR", "OOMKilled"),
    "vanished": ("DELETED", None),
}
FILES = {"model/adapter_config.json": b"{}", "model/adapter_model.safetensors": b"weights" * 99}


@pytest.fixture
def run(hub, renter, recipe):
    """A run whose job has done all that it was to do; nobody has looked since."""
    run = Run(renter.runs / LAUNCHER.start(recipe, renter))
    repo, job = hub.repos["models", jobs.job_of(run).results], hub.jobs.newest
    repo.add_commit({path: hub.blobs.entry(path, content) for path, content in FILES.items()}, "Result")
    job.started, job.stage = job.created - 1800, "RUNNING"
    for number, event in enumerate([{"type": "started", "step": 0, "steps": 5}, {"type": "done", "step": 5}], start=1):
        job.say(to_line({"t": 1.0, **event}, number))
    job.end("COMPLETED")
    return run


def delete_repository(hub, run):
    del hub.repos["models", jobs.job_of(run).results]


def delete_model(hub, run):
    """As somebody does on the Hub's page: a commit without that folder."""
    hub.repos["models", jobs.job_of(run).results].add_commit({}, "Delete")


def the_ending(run):
    (ending,) = [event for event in run.events()[0] if event["type"] in ("failed", "stopped", "done")]
    return ending


UNCLEAR = pytest.mark.parametrize(
    "fault",
    [
        {"status": 401, "headers": {"X-Error-Code": "RepoNotFound"}},
        {"status": 403},
        {"status": 404},
        {"status": 429},
        {"status": 503},
        {"cut": True},
    ],
    ids=["token", "403", "a page of somebody else", "429", "503", "cut"],
)
GONE = pytest.mark.parametrize(
    ("delete", "why", "remedy"),
    [
        (delete_repository, "was not found", "from the beginning"),
        (delete_model, "has no result", "the checkpoint in the repository"),
    ],
)


@GONE
@pytest.mark.parametrize("log", ["read", "lost"])
def test_a_result_that_was_deleted_ends_the_run_with_its_place_and_a_remedy(hub, renter, run, delete, why, remedy, log):
    delete(hub, run)
    if log == "lost":
        hub.fail("job_logs", status=404, times=99)
    for _ in range(2):
        jobs.sync(run, renter)
    status, results = run.status(), jobs.job_of(run).results
    assert status.status == "failed" and the_ending(run)["reason"] == "result_gone"
    for part in (why, remedy, "Resume", f'"{results}"', f"{hub.url}/{results}", "$0.50"):
        assert part in status.error, status.error
    assert jobs.job_of(run).problem is None and not run.model.exists()


@GONE
def test_it_is_told_apart_on_the_page_and_nobody_looks_for_it_any_more(
    hub, renter, run, delete, why, remedy, monkeypatch
):
    monkeypatch.setattr(job_follow, "RETRY_SECONDS", 0.05)
    delete(hub, run)
    follower = jobs.follow(run, renter)
    follower.join(60)
    assert not follower.is_alive()
    view = run_view._view(Caller(Owner("local"), "en", "tab"), run.id, None)
    html, stop, resume = (view[name] for name in ("state", "stop", "resume"))
    assert why in html and say("run.status.failed") in html and say("run.status.fetching") not in html
    assert resume["visible"] and not stop["visible"]
    asked = len(hub.requests)
    jobs.sync(run, renter)
    assert len(hub.requests) == asked


@UNCLEAR
def test_what_only_cannot_be_fetched_now_is_fetched_later(hub, renter, run, fault):
    """A 401 of which the client makes "no such repository", and a 404 that is not the Hub's own, prove nothing."""
    hub.fail("info", path=jobs.job_of(run).results, times=99, **fault)
    with pytest.raises(UserError):
        jobs.sync(run, renter)
    assert run.status().status == "fetching" and run.progress().ending is None
    hub.heal()
    jobs.sync(run, renter)
    assert run.status().status == "done" and the_ending(run)["type"] == "done"
    assert (run.model / "adapter_config.json").read_bytes() == b"{}"


def test_resuming_makes_the_repository_anew_and_starts_one_more_job(hub, renter, run):
    delete_repository(hub, run)
    jobs.sync(run, renter)
    LAUNCHER.resume(run, renter)
    record = jobs.job_of(run)
    assert run.status().status == "queued" and record.attempt == 2 and len(hub.jobs.all) == 2
    assert hub.repos["models", record.results].private and record.usd_so_far == pytest.approx(0.5, rel=0.01)


def test_another_machine_is_told_the_same(hub, renter, run, monkeypatch):
    delete_repository(hub, run)
    monkeypatch.setenv("TUNESCOPE_HOME", str(renter.folder.parent / "another-machine"))
    (there,) = jobs.attach(renter)
    assert there.folder != run.folder and there.status().status == "failed"
    assert "was not found" in there.status().error


def test_a_job_that_was_asked_to_stop_and_of_which_no_word_is_left_has_stopped(hub, renter, recipe):
    run = Run(renter.runs / LAUNCHER.start(recipe, renter))
    job = hub.jobs.newest
    job.started, job.stage = job.created, "RUNNING"
    LAUNCHER.stop(run, renter)
    job.end("COMPLETED")
    hub.fail("job_logs", status=404, times=99)
    jobs.sync(run, renter)
    assert run.status().status == "stopped"


@pytest.fixture
def cut_off(hub, renter, recipe):
    """Ends a job that trains and has uploaded a checkpoint in a way that leaves it no last word; returns its run."""

    def end(way):
        run, job = Run(renter.runs / LAUNCHER.start(recipe, renter)), hub.jobs.newest
        job.started, job.stage = job.created - 1800, "RUNNING"
        job.say(to_line({"t": 1.0, "type": "uploaded", "step": 40}, 1))
        job.end(*ENDINGS[way])
        return run

    return end


@pytest.mark.parametrize("way", ENDINGS)
def test_no_checkpoint_is_promised_of_a_job_whose_repository_was_deleted(hub, renter, cut_off, way):
    run = cut_off(way)
    delete_repository(hub, run)
    for _ in range(2):
        jobs.sync(run, renter)
    said, results = run.status().error, jobs.job_of(run).results
    assert the_ending(run)["reason"] == way and run.status().status == "failed"
    for part in (
        "Nothing is left of the job",
        "from the beginning (step 0)",
        f'"{results}"',
        f"{hub.url}/{results}",
        "$0.50",
    ):
        assert part in said, said
    assert "step 40" not in said and "checkpoint" not in said
    LAUNCHER.resume(run, renter)
    assert jobs.job_of(run).attempt == 2 and checkpoint_steps(list(hub.repos["models", results].head.files)) == []


@UNCLEAR
def test_whether_anything_is_left_of_a_job_is_not_guessed(hub, renter, cut_off, fault):
    run = cut_off("timeout")
    hub.fail("info", path=jobs.job_of(run).results, times=99, **fault)
    with pytest.raises(UserError):
        jobs.sync(run, renter)
    assert run.status().status == "fetching" and run.progress().ending is None
    hub.heal()
    jobs.sync(run, renter)
    assert run.status().status == "failed" and "step 40" in run.status().error
