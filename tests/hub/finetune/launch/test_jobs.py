"""A run as rented jobs from end to end: one times out, the next goes on and is done; another is stopped from the shell.

Each job really runs: pinned requirements, sources from the private repository, training, uploads, a log that is read.
"""

import hashlib
import io
import json
import os
import subprocess
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace

import pytest
import yaml

from core import settings
from core.workspace import Owner
from finetune.cli.main import main
from finetune.launch.follow import follow as job_follow
from finetune.launch.follow.intake import feed
from finetune.launch.follow.sync import last_uploaded_step
from finetune.launch.jobs import launcher as jobs
from finetune.runs.run import Run
from tests.hub.conftest import speak_to
from tests.hub.standin import TOKEN, USER, HubStandIn
from tests.rules.source import ROOT
from tests.tiny.training import make_config, make_run, write_data

BASE = f"{USER}/tiny-base"


@pytest.fixture(scope="module")
def story(tmp_path_factory, tiny_model):
    """All that happens, once: `timed_out` and `done` tell how the first run stood then, `stopped` is the second.

    Slow: three jobs, which train in processes of their own and save checkpoints to the Hub.
    """
    place = tmp_path_factory.mktemp("jobs")
    hub = HubStandIn()
    hub.add_user(USER, token=TOKEN)
    hub.add_repo(BASE, tiny_model, private=True)
    with pytest.MonkeyPatch.context() as patch:
        speak_to(hub, patch, place / "hf-home")
        patch.setenv("TUNESCOPE_HOME", str(place / "home"))
        patch.setenv("TUNESCOPE_CACHE", str(place / "cache"))
        patch.setattr(jobs, "POLL_SECONDS", 0.2)
        patch.setattr(job_follow, "RETRY_SECONDS", 0.2)
        told = SimpleNamespace(hub=hub, place=place, owner=Owner("local", TOKEN), tiny_model=tiny_model)
        tell(told)
        yield told
    told.hold.set()
    hub.close()


def tell(story):
    """Two runs, side by side where they can be: each job imports what training needs, which takes its time."""
    data = write_data(story.place / "data.json")
    config = make_config(BASE, data, watch__checkpoint_every=3, optim__epochs=3)
    story.hub.jobs.hold.clear()
    story.run = Run(story.owner.runs / jobs.JobsLauncher("a10g-small", "1h").start(config, story.owner))
    first, story.hold = story.hub.jobs.newest, threading.Event()
    second_upload = story.hub.fail("commit", path=story.run.id, at=2, hold=story.hold)
    story.hub.jobs.hold.set()
    follower = jobs.follow(story.run, story.owner)
    start_from_the_shell(story, data)
    second_upload.reached.wait()
    story.hub.jobs.time_out(first)
    follower.join()
    story.timed_out = SimpleNamespace(
        status=story.run.status(), job=jobs.job_of(story.run), steps=checkpoints(story.hub, story.run)
    )
    jobs.JobsLauncher("a10g-small", "2h").resume(story.run, story.owner)
    stop_from_the_shell(story)
    jobs.follow(story.run, story.owner).join()
    story.job = jobs.job_of(story.run)


def start_from_the_shell(story, data):
    """A run that would take very long."""
    config = story.place / "long.yaml"
    raw = make_config(BASE, data, watch__checkpoint_every=5, optim__epochs=5000).model_dump(exclude_none=True)
    config.write_text(yaml.safe_dump(raw))
    story.hub.jobs.hold.clear()
    story.start = here("start", config, "--on", "jobs", "--flavor", "cpu-basic", "--timeout", "90m")
    assert story.start.returncode == 0, story.start.stderr
    story.long = Run(story.owner.runs / story.start.stdout.strip())
    story.hub.fail("commit", path=story.long.id, status=503)
    story.hub.jobs.hold.set()


def stop_from_the_shell(story):
    """Let it train a while, then stop it as a person types it, and look at it."""
    follower = jobs.follow(story.long, story.owner)
    while not last_uploaded_step(story.long):
        assert follower.is_alive(), story.long.log_tail()
        time.sleep(0.05)
    story.stop = shell("stop", story.long.id)
    follower.join()
    story.status = json.loads(shell("status", story.long.id, "--json").stdout)


def here(*words):
    """The shell in this process: the job is told how often this process looks at a run."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", TOKEN)
        code = main([*map(str, words)])
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


def shell(*words):
    command = [settings.python(), "-m", "finetune", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"HF_TOKEN": TOKEN}, capture_output=True, text=True)


def checkpoints(hub, run):
    """The steps of the checkpoints in the run's private repository."""
    files = hub.repos["models", f"{USER}/tunescope-run-{run.id}"].head.files
    return sorted({int(path.split("/")[1].rpartition("-")[2]) for path in files if path.startswith("checkpoints/")})


@pytest.fixture(autouse=True)
def at_home(story, monkeypatch, workspace):
    """Every test looks at the story's workspace."""
    monkeypatch.setenv("TUNESCOPE_HOME", str(story.place / "home"))


def test_a_job_whose_time_is_up_says_so_and_has_kept_a_checkpoint(story):
    status, (step,) = story.timed_out.status, story.timed_out.steps
    assert status.status == "failed"
    assert "time limit of 60 minutes" in status.error and f"step {step})" in status.error
    assert story.timed_out.job.stage == "ERROR" and step >= 3


def test_a_new_job_goes_on_from_there_and_is_done(story):
    started = [event for event in story.run.events()[0] if event["type"] == "started"]
    assert [event["step"] for event in started] == [0, story.timed_out.steps[0]]
    assert story.run.status().status == "done"
    assert (story.job.attempt, story.job.stage, story.job.timeout) == (2, "COMPLETED", 7200)


def test_both_jobs_together_draw_the_curve_of_one_local_run(story, workspace, monkeypatch):
    from finetune.runs.log import Journal
    from finetune.training.attempt import train

    monkeypatch.setenv("TUNESCOPE_HOME", str(workspace))
    data = write_data(story.place / "again.json")
    changes = {"watch__checkpoint_every": 3, "optim__epochs": 3}
    local = make_run(Owner("local"), story.tiny_model, data, **changes)
    train(local, story.tiny_model, Journal(local), lambda: False)
    wanted = {step: event["loss"] for step, event in local.progress().train.items()}
    got = {step: event["loss"] for step, event in story.run.progress().train.items()}
    assert got == pytest.approx(wanted, rel=1e-4)
    assert story.run.status().eval_loss == pytest.approx(local.status().eval_loss, rel=1e-4)


def test_the_result_is_here_and_loads_on_its_base(story):
    from inference.models.locate import Shelf, locate

    loaded = Shelf().get(locate(story.run.id, story.owner), "float32")
    assert loaded.adapter
    names = {path.name for path in story.run.model.iterdir()}
    assert {"adapter_model.safetensors", "tunescope.json"} <= names
    assert not [name for name in names if name.startswith((".", "optimizer", "scheduler", "rng"))]


def test_the_environment_names_what_the_job_really_trained(story):
    from inference.models.fingerprint import fingerprint

    environment = story.run.environment()
    commit = story.hub.repos["models", BASE].head.sha
    assert (environment["base"], environment["revision"]) == (f"{BASE}@{commit}", commit)
    assert environment["fingerprint"] == fingerprint(story.tiny_model)
    assert environment["device"] == "cpu" and environment["versions"]["torch"]


def test_the_inputs_are_private_pinned_and_only_what_is_needed(story):
    inputs = story.hub.repos["datasets", story.job.inputs]
    assert inputs.private and story.hub.repos["models", story.job.results].private
    source = story.hub.content(story.job.inputs, f"sources/{story.job.source}.zip", kind="datasets")
    assert hashlib.sha256(source).hexdigest() == story.job.source
    pins = story.hub.content(story.job.inputs, f"runs/{story.run.id}/requirements.txt", kind="datasets").decode()
    assert all("==" in line for line in pins.splitlines())
    assert "torch==" in pins and "transformers==" in pins and "gradio" not in pins
    for job in story.hub.jobs.all.values():
        (volume,) = job.spec["volumes"]
        assert volume["readOnly"] and inputs.at(volume["revision"]) and job.spec["timeoutSeconds"] in (3600, 7200, 5400)


def test_reading_the_log_again_changes_nothing(story):
    before = {name: (story.run.folder / name).read_bytes() for name in ("events.jsonl", "log.txt", "job.json")}
    job = story.hub.jobs.all[story.job.id]
    lines = [line for _, line in job.lines if not line.startswith("=====")]
    feed(story.run, story.owner, story.job.id, lines)
    jobs.sync(story.run, story.owner)
    assert before == {name: (story.run.folder / name).read_bytes() for name in before}
    numbers = [event["n"] for event in story.run.events()[0] if event.get("job") == job.id and "n" in event]
    assert numbers == sorted(set(numbers)) and len(numbers) > 5
    assert "loss" in story.run.log_tail() and "TUNESCOPE_EVENT" not in story.run.log_path.read_text()


def test_metrics_and_cost_are_told(story):
    samples = [json.loads(line) for line in (story.run.folder / "metrics.jsonl").read_text().splitlines()]
    assert samples and samples[0]["gpus"]
    seconds = [job.finished - job.started for job in story.hub.jobs.all.values() if job.spec["flavor"] == "a10g-small"]
    assert story.job.usd_so_far == pytest.approx(sum(int(one) for one in seconds) / 3600, abs=2 / 3600)


def test_stopping_saves_and_keeps_the_checkpoint_of_that_step(story):
    assert story.stop.returncode == 0, story.stop.stderr
    status = story.long.status()
    assert status.status == "stopped"
    assert checkpoints(story.hub, story.long) == [status.step] and status.step >= 3
    assert story.status["status"] == "stopped" and story.status["job"]["stage"] == "COMPLETED"
    assert story.status["job"]["asked_to_stop"] and story.status["job"]["flavour"] == "cpu-basic"


def test_an_upload_that_fails_is_said_and_the_next_checkpoint_kept(story):
    assert "503" in story.long.log_path.read_text()
    assert last_uploaded_step(story.long) == story.long.status().step


def test_the_shell_says_what_was_checked_and_what_it_may_cost(story):
    assert f"The access token of {USER} has write access." in story.start.stderr
    assert "Rough estimate" in story.start.stderr and "$0.01 an hour" in story.start.stderr


def test_an_empty_workspace_finds_the_jobs_again_by_their_label(story, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESCOPE_HOME", str(tmp_path / "elsewhere"))
    found = {run.id: run for run in jobs.attach(story.owner)}
    assert set(found) == {story.run.id, story.long.id}
    again = found[story.run.id]
    assert again.folder != story.run.folder and again.status().status == "done"
    losses = [{step: event["loss"] for step, event in run.progress().train.items()} for run in (again, story.run)]
    assert losses[0] == losses[1]
    weights = "adapter_model.safetensors"
    assert (again.model / weights).read_bytes() == (story.run.model / weights).read_bytes()
    assert found[story.long.id].status().status == "stopped"
    assert sum(jobs.job_of(again).others.values()) > 0 and jobs.job_of(again).attempt > 1
    assert jobs.job_of(again).usd_so_far == pytest.approx(story.job.usd_so_far, abs=2e-4)
    assert again.environment()["fingerprint"] == story.run.environment()["fingerprint"]
    assert jobs.attach(story.owner)[0].id in found


def test_the_token_is_in_no_file_no_command_and_no_log(story):
    assert len(list(story.hub.jobs.folder.iterdir())) == 3
    for folder in (story.place, story.hub.jobs.folder, story.hub.blobs.folder):
        for path in folder.rglob("*"):
            assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
    for job in story.hub.jobs.all.values():
        assert TOKEN not in json.dumps([job.spec["command"], job.spec["environment"], job.spec["labels"]])
        assert not [line for _, line in job.lines if TOKEN in line]
        assert job.spec["secrets"] == {"HF_TOKEN": TOKEN}
    assert not [request.path for request in story.hub.requests if TOKEN in request.path]
