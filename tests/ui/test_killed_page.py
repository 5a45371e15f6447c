"""What outlives a killed page: its run, which the next page finds, stops and resumes, and, with a backup, all that was
kept, even where the disk is lost."""

import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from core import settings
from core.workspace import Owner
from finetune.data.store import list_datasets
from finetune.runs.run import Run
from tests.app_process import ROOT, call, running_app
from tests.ui.here import served
from tests.ui.people import entry_of, filled
from ui.train import run_view
from ui.web.handler import Caller

MANY_EPOCHS = 2000
KEEP = 5
"""Where the button stands among what the view of a run is drawn anew with."""


def ask(app, name, data):
    message = call(app, entry_of(app, name), data)
    assert message["success"], message["output"]
    return message["output"]["data"]


def start(app, dataset, **changed):
    """Start a run here with the form's fields as they come but for some knobs; returns its id."""
    entry = entry_of(app, "start")
    knobs = {f"knob-{path.replace('__', '-')}": value for path, value in changed.items()}
    return ask(app, "start", filled(app, entry, {"train-on": [dataset], **knobs}))[2]["value"]


def wait_for(app, run, shown):
    while shown not in (html := ask(app, "tick", [run, ""])[2]):
        assert "ts-is-failed" not in html, html
        time.sleep(0.1)
    return html


def kill(run):
    os.kill(json.loads((run.folder / "handle.json").read_text())["pid"], signal.SIGKILL)
    run.wait()


@dataclass
class Killed:
    """What a page left that was killed: its workspace, the copies it kept of that, and a run at work."""

    home: Path
    bucket: Path
    run: str


@pytest.fixture(scope="module")
def killed(tmp_path_factory, tiny_model):
    """A page with a backup, in which somebody imported rows and started a run on them, killed at that."""
    folder = tmp_path_factory.mktemp("killed")
    left = Killed(folder / "home", folder / "bucket", "")
    left.bucket.mkdir()
    with running_app(folder, backed_up(left)) as page:
        dataset = ask(page, "bring_example", [])[2]["value"]
        left.run = start(page, dataset, model=str(tiny_model), limits__max_length=64, optim__epochs=MANY_EPOCHS)
        wait_for(page, left.run, "ts-is-running")
        while not list(left.bucket.rglob("datasets/*/*.json")):
            time.sleep(0.05)
        page.process.send_signal(signal.SIGKILL)
        page.process.wait()
    yield left
    run = Run(left.home / "local/runs" / left.run)
    if run.alive():
        kill(run)


def backed_up(left):
    return {"OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8", "TUNESCOPE_BACKUP": str(left.bucket), "TUNESCOPE_LOG": "json"}


@pytest.mark.ci
def test_a_killed_page_leaves_the_run_alone_and_the_next_finds_it(killed, monkeypatch):
    monkeypatch.setenv("TUNESCOPE_HOME", str(killed.home))
    run = killed.run
    with served() as second:
        assert run in ask(second, "runs_line", [])[0]
        before = step_of(wait_for(second, run, " / "))
        while step_of(ask(second, "tick", [run, ""])[2]) <= before:
            time.sleep(0.1)
        ask(second, "stop_run", [run])
        stopped = step_of(wait_for(second, run, "ts-is-stopped"))
        ask(second, "resume_run", [run, None])
        wait_for(second, run, "ts-is-running")
        while step_of(ask(second, "tick", [run, ""])[2]) <= stopped:
            time.sleep(0.1)
        ask(second, "stop_run", [run])
        wait_for(second, run, "ts-is-stopped")


@pytest.mark.ci
def test_what_was_imported_is_there_again_after_the_disk_was_lost(killed, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESCOPE_HOME", str(tmp_path / "home"))
    with running_app(tmp_path, backed_up(killed)) as second:
        while not list_datasets(Owner("local")):
            assert second.process.poll() is None
            time.sleep(0.05)
        while '"event": "restore"' not in second.log.read_text():
            time.sleep(0.05)
    (dataset,) = list_datasets(Owner("local"))
    assert len(dataset.rows()) == 60
    assert "backup_problem" not in second.log.read_text()


def test_a_backup_at_an_address_that_is_none_stops_the_start_with_a_sentence():
    command = [settings.python(), "app.py", "--port", "0"]
    environment = os.environ | {"TUNESCOPE_BACKUP": "s3://mine"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "TUNESCOPE_BACKUP" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.ci
def test_the_last_checkpoint_of_a_killed_run_becomes_its_result_on_the_page(app, tiny_model):
    dataset = ask(app, "bring_example", [])[2]["value"]
    more = {"limits__max_length": 64, "optim__epochs": MANY_EPOCHS, "watch__checkpoint_every": 2}
    run = start(app, dataset, model=str(tiny_model), **more)
    folder = app.log.parent / "home/local/runs" / run
    while not list(folder.glob("checkpoints/checkpoint-*/trainer_state.json")):
        wait_for(app, run, "ts-is-")
        time.sleep(0.1)
    assert not ask(app, "tick", [run, ""])[KEEP]["visible"]
    kill(Run(folder))
    assert ask(app, "tick", [run, ""])[KEEP]["visible"]
    assert "has finished" in ask(app, "keep_result", [run])[0]
    assert "ts-is-done" in ask(app, "tick", [run, ""])[2]
    assert (folder / "model" / "adapter_model.safetensors").is_file()


def step_of(html):
    return int(re.search(r"<b>(\d+)<small> /", html).group(1))


def test_what_did_not_change_is_not_sent_again(workspace):
    caller = Caller(Owner("local"), "en", "tab")
    first = run_view._view(caller, None, None)
    assert first["seen"] == "" and "ts-empty" in first["state"]
    assert run_view._view(caller, None, first["seen"]) == {}
