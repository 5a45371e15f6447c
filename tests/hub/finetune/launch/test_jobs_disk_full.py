"""A disk that is full at any write of a job: a sentence, nothing paid that is lost, and the next try works."""

import shutil

import pytest

from core.errors import UserError
from finetune.launch.follow import sync as job_sync
from finetune.launch.follow.lines import to_line
from finetune.launch.jobs import launcher as jobs
from finetune.plan.prepare import import_data
from finetune.runs.job_record import locked
from finetune.runs.run import Run, list_runs
from tests.refusals import refused
from tests.small_disk import fill, make_room, small_disk

LAUNCHER = jobs.JobsLauncher("a10g-small", "2h")


@pytest.fixture
def disk(renter, tmp_path, monkeypatch):
    with small_disk(tmp_path / "small", "6m") as folder:
        monkeypatch.setenv("TUNESCOPE_HOME", str(folder / "home"))
        yield folder


@pytest.fixture
def config(disk, renter, recipe):
    return import_data(recipe, renter)


@pytest.fixture
def run(hub, disk, renter, config):
    """A run whose job is at work."""
    run = Run(renter.runs / LAUNCHER.start(config, renter))
    hub.jobs.newest.started, hub.jobs.newest.stage = hub.jobs.newest.created, "RUNNING"
    return run


def test_the_start_of_a_job(hub, disk, renter, config):
    fill(disk)
    assert str(renter.runs) in refused("core.disk_full", LAUNCHER.start, config, renter)
    assert list_runs(renter) == [] and not list(renter.runs.glob("r*")) and not hub.jobs.all
    make_room(disk)
    assert LAUNCHER.start(config, renter) and len(hub.jobs.all) == 1


def test_a_disk_that_fills_up_while_the_machine_is_asked_for_loses_no_job_that_is_paid(hub, disk, renter, config):
    def meanwhile(progress):
        if progress.done == 2:
            fill(disk)

    with pytest.raises(UserError) as caught:
        LAUNCHER.start(config, renter, progress=meanwhile)
    assert caught.value.code == "core.disk_full" and "job_start" not in hub.kinds()
    assert list_runs(renter) == [] and not hub.jobs.all


def test_what_a_job_tells(hub, run, disk, renter):
    job = hub.jobs.newest
    for step in range(1, 300):
        job.say(to_line({"t": 1.0, "type": "train", "step": step, "loss": 1.0, "tokens_per_s": 1.0}, step))
        job.say(f"a line for people, {step}")
    job.end("ERROR", "node lost")
    fill(disk)
    assert str(disk) in refused("job.no_room", jobs.sync, run, renter)
    job_sync._sample(run, renter, jobs.job_of(run))
    make_room(disk)
    jobs.sync(run, renter)
    steps = [event["step"] for event in run.events()[0] if event["type"] == "train"]
    assert sorted(set(steps)) == steps == list(range(1, 300)) and run.status().status == "failed"


def test_a_sample_of_the_machine_is_left_out(hub, run, disk, renter):
    jobs.sync(run, renter, log=False)
    fill(disk)
    job_sync._sample(run, renter, jobs.job_of(run))
    make_room(disk)
    job_sync._sample(run, renter, jobs.job_of(run))
    with locked(run):
        assert (run.folder / "metrics.jsonl").read_text().endswith("}\n")


def test_the_result_of_a_job(hub, run, disk, renter):
    repo = hub.repos["models", jobs.job_of(run).results]
    weights = {"model/adapter_config.json": b"{}", "model/adapter_model.safetensors": b"weights" * 99_999}
    repo.add_commit({path: hub.blobs.entry(path, content) for path, content in weights.items()}, "Result")
    hub.jobs.newest.say(to_line({"t": 2.0, "type": "done", "step": 5}, 1))
    hub.jobs.newest.end("COMPLETED")
    jobs.job_of(run)
    fill(disk)
    refused("job.no_room", jobs.sync, run, renter)
    assert run.progress().ending is None and not run.model.exists() and not list(run.folder.glob(".*part"))
    make_room(disk)
    jobs.sync(run, renter)
    assert run.status().status == "done" and (run.model / "adapter_model.safetensors").stat().st_size == 7 * 99_999


def test_a_job_that_comes_to_a_full_disk(hub, run, disk, renter):
    shutil.rmtree(renter.runs)
    renter.runs.mkdir()
    fill(disk)
    assert jobs.attach(renter) == [] and list_runs(renter) == [] and not list(renter.runs.glob("r*"))
    make_room(disk)
    (again,) = jobs.attach(renter)
    assert again.id == run.id and again.alive() and list_runs(renter)[0].id == run.id
