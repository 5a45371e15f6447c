"""Jobs that this workspace does not know: late ones, those of another machine. No run is paid twice because of them."""

import threading
from contextlib import contextmanager

import pytest

from core.errors import UserError
from core.hub import retries
from finetune.launch.delete import remove
from finetune.launch.follow import sync as job_sync
from finetune.launch.follow.lines import to_line
from finetune.launch.jobs import launcher as jobs
from finetune.runs.run import Run, list_runs

LAUNCHER = jobs.JobsLauncher("a10g-small", "2h")


def lost_start(hub, renter, recipe, **fault):
    """A run whose start was not answered."""
    hub.fail("job_start", **fault)
    with pytest.raises(UserError) as caught:
        LAUNCHER.start(recipe, renter)
    assert caught.value.code == "job.unknown_start"
    (run,) = list_runs(renter)
    return run


def arrives(hub, run):
    """The Hub makes a job of what it was asked for some time ago."""
    labels = {"made-by": "tunescope", "tunescope": run.id, "tunescope-attempt": "1"}
    spec = {"labels": labels, "flavor": "a10g-small", "command": [], "arguments": [], "environment": {}}
    return hub.jobs.start(jobs.job_of(run).namespace, "", spec)


def test_a_job_that_appears_late_is_the_runs_own(hub, renter, recipe):
    run = lost_start(hub, renter, recipe, cut=True)
    jobs.sync(run, renter)
    assert run.alive()
    with pytest.raises(UserError, match="still running"):
        LAUNCHER.resume(run, renter)
    late = arrives(hub, run)
    jobs.sync(run, renter)
    assert jobs.job_of(run).id == late.id and len(hub.jobs.all) == 1


def test_a_job_that_appears_when_nobody_waits_any_more_is_not_paid_twice(hub, renter, recipe, monkeypatch):
    monkeypatch.setattr(job_sync, "LATE_SECONDS", 0)
    run = lost_start(hub, renter, recipe, status=408)
    jobs.sync(run, renter)
    assert run.status().status == "failed"
    late = arrives(hub, run)
    with pytest.raises(UserError, match="still running"):
        LAUNCHER.resume(run, renter)
    assert len(hub.jobs.all) == 1 and run.status().status == "queued"
    LAUNCHER.stop(run, renter)
    assert late.stage == "CANCELED"


def test_a_silent_hub_does_not_hold_up_a_start_for_ever(hub, renter, recipe, monkeypatch):
    monkeypatch.setattr(retries, "patience", retries.Patience(answer=0.5))
    release = threading.Event()
    try:
        run = lost_start(hub, renter, recipe, hold=release, cut=True)
        assert run.alive()
    finally:
        release.set()


def test_a_run_that_another_machine_resumed_is_followed_here_and_not_paid_twice(hub, renter, recipe, monkeypatch):
    here = Run(renter.runs / LAUNCHER.start(recipe, renter))
    first, home = hub.jobs.newest, renter.folder.parent
    first.end("ERROR", "Job timeout")
    jobs.sync(here, renter)
    monkeypatch.setenv("TUNESCOPE_HOME", str(home / "another-machine"))
    (there,) = jobs.attach(renter)
    LAUNCHER.resume(there, renter)
    monkeypatch.setenv("TUNESCOPE_HOME", str(home))
    with pytest.raises(UserError, match="still running"):
        LAUNCHER.resume(here, renter)
    assert len(hub.jobs.all) == 2 and jobs.job_of(here).attempt == 2
    assert jobs.job_of(here).id == hub.jobs.newest.id


def test_attaching_brings_a_newer_job_and_events_go_on(hub, renter, recipe, monkeypatch):
    here = Run(renter.runs / LAUNCHER.start(recipe, renter))
    job, home = hub.jobs.newest, renter.folder.parent
    job.started, job.stage = job.created, "RUNNING"
    job.say(to_line({"t": 1.0, "type": "uploaded", "step": 3}, 1))
    job.end("ERROR", "Job timeout")
    jobs.sync(here, renter)
    monkeypatch.setenv("TUNESCOPE_HOME", str(home / "another-machine"))
    LAUNCHER.resume(jobs.attach(renter)[0], renter)
    second = hub.jobs.newest
    second.started, second.stage = second.created, "RUNNING"
    second.say(to_line({"t": 2.0, "type": "uploaded", "step": 9}, 1))
    monkeypatch.setenv("TUNESCOPE_HOME", str(home))
    assert [run.id for run in jobs.attach(renter)] == [here.id]
    assert here.status().status == "running" and job_sync.last_uploaded_step(here) == 9


def hours(hub, *spans):
    """Let the jobs so far have run that long; hours in the order they were started."""
    for job, span in zip(hub.jobs.all.values(), spans, strict=True):
        job.finished = job.finished or job.created + 10
        job.started = job.finished - 3600 * span


@contextmanager
def elsewhere(renter, monkeypatch):
    """The same person at another machine, for so long as the block goes on."""
    with monkeypatch.context() as there:
        there.setenv("TUNESCOPE_HOME", str(renter.folder.parent / "another-machine"))
        yield


def cost(run):
    return jobs.job_of(run).usd_so_far


def test_the_cost_of_a_run_is_that_of_all_its_jobs_wherever_they_were_started(hub, renter, recipe, monkeypatch):
    here = Run(renter.runs / LAUNCHER.start(recipe, renter))
    hub.jobs.newest.end("ERROR", "Job timeout")
    hours(hub, 1)
    jobs.sync(here, renter)
    with elsewhere(renter, monkeypatch):
        (there,) = jobs.attach(renter)
        for _ in range(2):
            LAUNCHER.resume(there, renter)
            hub.jobs.newest.end("ERROR", "Job timeout")
            jobs.sync(there, renter)
        hours(hub, 1, 2, 4)
        jobs.attach(renter)
    assert cost(here) == pytest.approx(1, abs=0.01)
    jobs.attach(renter)
    assert cost(here) == pytest.approx(7, abs=0.01), "also the second, of which nobody here had heard"
    assert jobs.job_of(here).attempt == 3
    LAUNCHER.resume(here, renter)
    assert cost(here) == pytest.approx(7, abs=0.01) and jobs.job_of(here).attempt == 4
    for _ in range(2):
        jobs.attach(renter)
    assert cost(here) == pytest.approx(7, abs=0.01), "each job counts once"


def test_a_job_beside_the_known_one_counts_and_one_that_the_hub_forgot_stays_paid(hub, renter, recipe, monkeypatch):
    run = Run(renter.runs / LAUNCHER.start(recipe, renter))
    first = hub.jobs.newest
    twin = hub.jobs.start(jobs.job_of(run).namespace, "", {**first.spec, "flavor": "t4-small"})
    for job in (first, twin):
        job.end("ERROR", "Job timeout")
    hours(hub, 1, 5)
    jobs.sync(run, renter)
    assert cost(run) == pytest.approx(1, abs=0.01)
    jobs.attach(renter)
    assert cost(run) == pytest.approx(1 + 5 * 0.4, abs=0.02) and jobs.job_of(run).id == first.id
    hub.jobs.lose(twin)
    jobs.attach(renter)
    assert cost(run) == pytest.approx(3, abs=0.02)
    LAUNCHER.resume(run, renter)
    assert cost(run) == pytest.approx(3, abs=0.02) and len(hub.jobs.all) == 2
    with elsewhere(renter, monkeypatch):
        assert cost(jobs.attach(renter)[0]) == pytest.approx(1, abs=0.01), "there only what the Hub lists is known"


def test_a_job_whose_inputs_are_gone_keeps_no_other_from_being_found(hub, renter, recipe, monkeypatch):
    run = Run(renter.runs / LAUNCHER.start(recipe, renter))
    broken = hub.jobs.newest.spec["volumes"][0] | {"revision": "0" * 40}
    labels = {"made-by": "tunescope", "tunescope": "r20260101-000000-abcd"}
    hub.jobs.start(jobs.job_of(run).namespace, "", {**hub.jobs.newest.spec, "labels": labels, "volumes": [broken]})
    monkeypatch.setenv("TUNESCOPE_HOME", str(renter.folder.parent / "another-machine"))
    assert [found.id for found in jobs.attach(renter)] == [run.id]
    assert not list(renter.runs.glob(".*part")) and not (renter.runs / "r20260101-000000-abcd").exists()


def test_a_run_that_was_deleted_does_not_come_back_with_its_job(hub, renter, recipe):
    run = Run(renter.runs / LAUNCHER.start(recipe, renter))
    hub.jobs.newest.end("ERROR", "node lost")
    jobs.sync(run, renter)
    remove(run.id, renter)
    assert jobs.attach(renter) == [] and list_runs(renter) == []


def test_what_jobs_bring_counts_against_the_room_that_a_person_has(hub, renter, recipe, monkeypatch):
    run = Run(renter.runs / LAUNCHER.start(recipe, renter))
    job, repo = hub.jobs.newest, hub.repos["models", jobs.job_of(run).results]
    repo.add_commit({"model/model.safetensors": hub.blobs.entry("model.safetensors", bytes(1_500_000))}, "Result")
    job.started, job.stage = job.created, "RUNNING"
    job.say(to_line({"t": 1.0, "type": "done", "step": 5}, 1))
    job.end("COMPLETED")
    monkeypatch.setenv("TUNESCOPE_LIMIT_DISK_MB", "1")
    with pytest.raises(UserError) as caught:
        jobs.sync(run, renter)
    assert caught.value.code == "limits.disk" and not run.model.exists()
    monkeypatch.setenv("TUNESCOPE_LIMIT_DISK_MB", "4")
    jobs.sync(run, renter)
    assert run.status().status == "done"


def test_data_that_a_job_had_is_not_brought_where_there_is_no_room(hub, renter, recipe, monkeypatch):
    LAUNCHER.start(recipe, renter)
    repo = hub.repos["datasets", hub.jobs.newest.spec["volumes"][0]["source"]]
    (name,) = [path for path in repo.head.files if path.endswith("rows.parquet")]
    repo.add_commit({**repo.head.files, name: hub.blobs.entry(name, bytes(1_500_000))}, "Larger")
    hub.jobs.newest.spec["volumes"][0]["revision"] = repo.head.sha
    monkeypatch.setenv("TUNESCOPE_HOME", str(renter.folder.parent / "another-machine"))
    monkeypatch.setenv("TUNESCOPE_LIMIT_DISK_MB", "1")
    assert jobs.attach(renter) == [] and not list(renter.datasets.glob("*"))
