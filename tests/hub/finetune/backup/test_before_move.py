"""What people have from before the modules moved into packages opens, resumes, evaluates, publishes and goes on.

The archive behind this holds what an older version made (tests/fixtures/make_before_move.py). Nothing in it is made by
the code under test.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from core.workspace import Owner
from finetune.__main__ import main as finetune
from finetune.backup.keeper import WorkspaceBackup
from finetune.backup.places import FolderPlace
from finetune.data.store import list_datasets
from finetune.launch.jobs import launcher as jobs
from finetune.publish import prepare, push, read_proof, read_push
from finetune.runs.run import find
from inference.__main__ import main as inference
from inference.compare.record import read_link, request_of_record
from inference.prompt_sets import report as set_report
from tests.fixtures.before_move import CONFIG, REPO, Before
from tests.hub.conftest import speak_to
from tests.hub.standin import TOKEN, USER, HubStandIn
from tests.rules.source import PACKAGES, ROOT
from tests.warm.start import start_cold


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return Before(tmp_path_factory.mktemp("before-move"))


@pytest.fixture
def ada(before, hub, tiny_model, workspace, monkeypatch):
    """The person whose things these are, in a copy of their workspace, with their account on the Hub."""
    monkeypatch.setenv("TUNESCOPE_CACHE", str(workspace / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    before.copy_workspace(workspace)
    before.fill_hub(hub, tiny_model)
    return Owner("local", TOKEN)


@pytest.fixture
def machines(before, ada, hub):
    """Their rented jobs; the one that waits does not begin."""
    hub.jobs.hold.clear()
    return before.fill_jobs(hub)


def printed(capfd, main, *words):
    """What a command prints as JSON."""
    capfd.readouterr()
    assert main([str(word) for word in words]) == 0, capfd.readouterr().err
    return json.loads(capfd.readouterr().out)


def keys(value, path=""):
    """The paths of all keys in a JSON value."""
    if isinstance(value, dict):
        return {path}.union(*(keys(part, f"{path}.{name}") for name, part in value.items()))
    return {path}.union(*(keys(part, f"{path}[]") for part in value)) if isinstance(value, list) else {path}


def test_the_tiny_model_of_the_tests_is_the_base_of_these_runs(before, tiny_model):
    """Where it is not any more, the archive must bring its base along."""
    from inference.models.fingerprint import fingerprint

    for name in ("finished", "stopped", "at_work"):
        assert json.loads(before.old_file(name, "env.json").read_text())["fingerprint"] == fingerprint(tiny_model)


def test_data_and_runs_are_listed_and_opened(before, ada, machines, capfd):
    listed = {one["id"]: one for one in printed(capfd, finetune, "list", "--json")}
    words = {name: listed[before.run(name)]["status"] for name in ("finished", "stopped", "at_work", "waiting")}
    assert words == {"finished": "done", "stopped": "stopped", "at_work": "running", "waiting": "queued"}
    assert listed[before.run("finished")]["step"] == listed[before.run("finished")]["steps"] == 20
    assert sorted(len(one.rows()) for one in list_datasets(ada)) == [18, 24]
    assert {one.report.kind for one in list_datasets(ada)} == {"chat", "preference"}
    told = printed(capfd, finetune, "status", before.run("stopped"), "--json")
    assert [stage["objective"] for stage in told["stages"]] == ["sft", "dpo"] and told["plan"]["expected"]
    assert all(find(before.run(name), ada).config().lora.rank == 2 for name in words)


def test_a_config_is_read_as_it_was_written(before, ada, capfd):
    assert finetune(["check", str(before.folder / CONFIG)]) == 0, capfd.readouterr().err
    run = find(before.run("finished"), ada)
    from finetune.config.run_config import load_yaml

    config = load_yaml((before.folder / CONFIG).read_bytes(), before.folder)
    changed = {"stages": run.config().stages}
    assert config.model_copy(update=changed) == run.config()


def test_a_stopped_run_resumes_in_its_second_stage_and_comes_to_its_end(before, ada, capfd):
    """Its process is a real one."""
    run = find(before.run("stopped"), ada)
    earlier = run.progress()
    assert finetune(["resume", run.id]) == 0, capfd.readouterr().err
    run.wait()
    assert run.status().status == "done", run.log_tail()
    events, attempt = run.events()[0], run.progress()
    started = [event["step"] for event in events if event["type"] == "started"]
    assert started == [0, earlier.step] and attempt.step == earlier.steps == attempt.steps
    rates = {step: event["learning_rate"] for step, event in attempt.train.items()}
    assert rates[earlier.step] > rates[earlier.step + 1] > 0, "the schedule goes on"
    assert sorted(attempt.train) == list(range(1, attempt.steps + 1))
    count = len(before.old_file("stopped", "events.jsonl").read_text().splitlines())
    old, new = (_keys_by_type(some) for some in (events[:count], events[count:]))
    assert new.keys() - old.keys() <= {"done"} and {"train", "eval", "sample", "checkpoint", "stage"} <= new.keys()
    for kind in new.keys() & old.keys():
        (always, ever), (always_now, ever_now) = old[kind], new[kind]
        assert always <= always_now and ever_now <= ever, kind


def _keys_by_type(events):
    """For each type of event the keys that all of them have, and those that any has."""
    found = {}
    for event in events:
        always, ever = found.get(event["type"], (set(event), set()))
        found[event["type"]] = (always & set(event), ever | set(event))
    return found


@pytest.mark.ci
def test_a_finished_run_is_measured_again_with_the_same_figures(before, ada, capfd):
    then = json.loads(before.old_file("finished", "evaluation.json").read_text())
    now = printed(capfd, finetune, "evaluate", before.run("finished"), "--rows", 10, "--json")
    assert keys(now) == keys(then)
    for one, other in zip(now["sets"], then["sets"], strict=True):
        means = [[measure[which]["mean"] for measure in each["measures"]] for each in (one, other) for which in SIDES]
        assert means[: len(SIDES)] == [pytest.approx(mean, rel=1e-3) for mean in means[len(SIDES) :]]


SIDES = ("base", "tuned")


def test_what_was_published_is_known_and_goes_on_where_it_lies(before, ada, hub):
    run = find(before.run("finished"), ada)
    pushed, proof = read_push(run), read_proof(run)
    assert pushed.repo_id == REPO and proof.ok and proof.revision == pushed.commit
    plan = prepare(run, REPO, ada)
    assert plan.target == "same" and not plan.needs_yes
    again = push(plan, ada)
    weights = "adapter_model.safetensors"
    assert again.files[weights] == pushed.files[weights]
    old = json.loads(before.old_file("finished", "published.json").read_text())
    assert json.loads((run.folder / "published.json").read_text()).keys() == old.keys()


def test_a_finished_run_is_published_anew(before, ada, hub):
    run = find(before.run("finished"), ada)
    push(prepare(run, f"{USER}/another", ada), ada)
    sent = hub.content(f"{USER}/another", "adapter_model.safetensors")
    assert sent == before.old_file("finished", "model", "adapter_model.safetensors").read_bytes()


def test_a_record_is_run_again_and_the_texts_are_the_same(before, ada, capfd):
    told = json.loads((before.folder / "record.json").read_text())
    capfd.readouterr()
    assert inference(["compare", "--record", str(before.folder / "record.json"), "--json", "--check"]) == 0
    shown = capfd.readouterr()
    again = json.loads(shown.out)
    assert [one["token_ids"] for one in again["columns"]] == [one["token_ids"] for one in told["columns"]]
    assert keys(again) >= keys(told) and [one["kind"] for one in again["checks"]] == ["identical"] * 4


def test_a_link_asks_for_what_the_record_says(before, ada):
    request, made = read_link(before.run("link"))
    assert request == request_of_record(json.loads((before.folder / "record.json").read_text()))
    assert request.model == before.run("finished") and request.columns[1] == "beam num_beams=2"
    assert made is not None and set(made) == {"models", "prompt_digest", "dtype", "versions"}


def test_a_prompt_set_is_found_and_read(before, ada):
    (identity,) = set_report.listed(ada)
    report = set_report.load(ada, identity)
    assert report["answered"] == 3 and [column["name"] for column in report["columns"]] == [
        "greedy",
        "beam num_beams=2",
    ]


def test_a_backup_fills_an_empty_workspace(before, tmp_path):
    home = tmp_path / "empty"
    assert WorkspaceBackup(FolderPlace(before.folder / "backup"), home).restore() == 4
    for name in ("finished", "stopped"):
        copied = home / "local" / "runs" / before.run(name)
        for path in ("config.yaml", "events.jsonl"):
            assert (copied / path).read_bytes() == before.old_file(name, path).read_bytes()


def test_a_job_that_is_still_at_work_is_asked_to_stop_where_it_looks(before, ada, hub, machines):
    """The older version looks for this file, and its job ends without a result then."""
    run = find(before.run("at_work"), ada)
    jobs.JobsLauncher("", "", ada).stop(run)
    assert hub.content(jobs.job_of(run).results, "control/stop-1") == b"stop\n"
    machines["at_work"].end("COMPLETED")
    jobs.sync(run, ada)
    assert run.status().status == "stopped"


def test_an_empty_workspace_finds_the_jobs_that_the_older_version_started(before, ada, hub, machines, monkeypatch):
    monkeypatch.setenv("TUNESCOPE_HOME", os.environ["TUNESCOPE_HOME"] + "-elsewhere")
    machines["at_work"].end("ERROR", "Job timeout")
    found = {run.id: run for run in jobs.attach(ada)}
    assert set(found) == {before.run("at_work"), before.run("waiting")}
    at_work = found[before.run("at_work")]
    assert at_work.status().status == "failed" and "step 3" in at_work.status().error
    told = map(json.loads, before.old_file("at_work", "events.jsonl").read_text().splitlines())
    losses = {event["step"]: event["loss"] for event in told if event["type"] == "train"}
    assert {step: event["loss"] for step, event in at_work.progress().train.items()} == losses and len(losses) == 15


@pytest.fixture(scope="module")
def story(before, tiny_model, tmp_path_factory):
    """Both jobs to their ends, side by side: the one that waited runs the older version's code under today's eyes; the
    other one's machine is gone, and a job of today goes on from its checkpoint.

    Two jobs, each with a training: they import torch twice each, so this takes more than 20 s."""
    place, hub = tmp_path_factory.mktemp("jobs"), HubStandIn()
    hub.add_user(USER, token=TOKEN)
    with pytest.MonkeyPatch.context() as patch:
        speak_to(hub, patch, place / "hf-home")
        patch.setenv("TUNESCOPE_HOME", str(place / "home"))
        patch.setenv("TUNESCOPE_CACHE", str(place / "cache"))
        start_cold(patch)
        before.copy_workspace(place / "home")
        before.fill_hub(hub, tiny_model)
        owner = Owner("local", TOKEN)
        machines = before.fill_jobs(hub)
        at_work, waiting = (find(before.run(name), owner) for name in ("at_work", "waiting"))
        hub.jobs.time_out(machines["at_work"])
        jobs.sync(at_work, owner)
        failed = at_work.status()
        jobs.JobsLauncher("cpu-basic", "1h").resume(at_work, owner)
        for run in (waiting, at_work):
            jobs.follow(run, owner).join()
        yield SimpleNamespace(**vars(before), hub=hub, owner=owner, at_work=at_work, waiting=waiting, failed=failed)
    hub.close()


@pytest.mark.ci
def test_a_job_that_runs_the_older_code_is_followed_to_its_end(story):
    """Slow: the older code runs in a fresh Python, which imports all libraries."""
    assert story.waiting.status().status == "done", story.waiting.log_tail()
    assert story.waiting.progress().step == story.waiting.progress().steps == 15
    assert (story.waiting.model / "adapter_model.safetensors").is_file()
    assert story.waiting.environment()["fingerprint"] == story.at_work.environment()["fingerprint"]


@pytest.mark.ci
def test_a_job_of_today_goes_on_from_the_checkpoint_of_one_of_the_older_version(story):
    assert "time limit of 60 minutes" in story.failed.error and "step 3)" in story.failed.error
    assert story.at_work.status().status == "done", story.at_work.log_tail()
    started = [event["step"] for event in story.at_work.events()[0] if event["type"] == "started"]
    assert started == [0, 3] and jobs.job_of(story.at_work).attempt == 2
    assert sorted(story.at_work.progress().train) == list(range(1, 16))


@pytest.mark.ci
def test_the_older_version_still_finds_what_a_job_of_today_left(story, before, tmp_path):
    """On another machine of the same person, that is not brought up to date yet."""
    code = before.unpack_code(tmp_path / "code")
    own = {"TUNESCOPE_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN, "HF_ENDPOINT": story.hub.url}
    command = [sys.executable, "-m", "finetune", "attach"]
    done = subprocess.run(command, cwd=code, env=os.environ | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == {story.at_work.id, story.waiting.id}
    assert all(" done " in f"{line} " for line in done.stdout.splitlines()), done.stdout
    adapter = tmp_path / "home" / "local" / "runs" / story.at_work.id / "model" / "adapter_model.safetensors"
    assert adapter.read_bytes() == (story.at_work.model / "adapter_model.safetensors").read_bytes()


@pytest.mark.ci
def test_a_run_that_waits_for_its_device_goes_on_when_the_code_under_it_is_exchanged(before, ada, hub, tmp_path):
    """As `git pull` does it: the process was started by the older version, and imports what trains after that.

    Two processes of two versions, and a training: about 20 s."""
    code, run = before.unpack_code(tmp_path / "code"), find(before.run("stopped"), ada)
    queue = tmp_path / "home" / ".queue" / "cpu"
    queue.mkdir(parents=True)
    with open(queue / "00000001-somebody", "wb") as ticket:
        fcntl.flock(ticket, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "finetune", "resume", run.id]
        done = subprocess.run(command, cwd=code, env=dict(os.environ), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        while "cpu" not in run.log_tail(1):
            assert run.alive(), run.log_tail()
            time.sleep(0.02)
        for package in PACKAGES[:3]:
            shutil.rmtree(code / package)
            shutil.copytree(ROOT / package, code / package)
    pid = json.loads((run.folder / "handle.json").read_text())["pid"]
    run.wait()
    assert run.status().status == "done", run.log_tail()
    assert json.loads((run.folder / "handle.json").read_text())["pid"] == pid
    assert run.progress().attempt == 2
