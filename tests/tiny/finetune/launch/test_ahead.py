"""The process of a run in the foreground, started ahead: it ends with its starter, and hears what that one hears.

Slow: each starts a Python of its own, twice, which imports all libraries.
"""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from finetune.config.run_config import to_yaml
from finetune.runs.run import Run
from tests.processes import command_of
from tests.tiny.training import make_config, write_data


@pytest.fixture
def train(tmp_path, tiny_model, cold):
    """`train(**changes)` starts the shell's command on a small data file; its stderr is a pipe."""
    started = []

    def start(**changes):
        config = tmp_path / "c.yaml"
        config.write_text(to_yaml(make_config(tiny_model, write_data(tmp_path / "data.json"), **changes)))
        settings = {"TUNESCOPE_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", "LC_ALL": "C"}
        command = [sys.executable, "-m", "finetune", "train", str(config)]
        process = subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def _until(process, words):
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it ended without saying {words!r}")


def _worker(process):
    return next(child for child in psutil.Process(process.pid).children() if "--ahead" in command_of(child))


def _run(tmp_path):
    return Run(next((tmp_path / "home/local/runs").glob("r*")))


@pytest.mark.ci
def test_a_killed_starter_takes_the_run_along_and_it_can_be_resumed(train, tmp_path):
    process = train(optim__epochs=2000, watch__checkpoint_every=2)
    _until(process, "step 5/")
    worker = _worker(process)
    process.kill()
    worker.wait()
    run = _run(tmp_path)
    assert not run.alive() and run.status().status == "failed"
    assert any(run.checkpoints.iterdir())


@pytest.mark.ci
def test_a_request_to_end_is_passed_on(train, tmp_path):
    process = train(optim__epochs=2000)
    _until(process, "step 2/")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 1 and _run(tmp_path).status().status == "stopped"


@pytest.mark.ci
def test_refused_before_there_is_a_run_nothing_stays(train, tmp_path):
    process = train(lora={"rank": 1000})
    told = process.communicate()[1]
    assert process.returncode == 2 and "(lora.rank) is 1000" in told
    assert not list((tmp_path / "home/local/runs").glob("r*"))
    assert not [one for one in psutil.process_iter() if str(tmp_path) in " ".join(command_of(one))]
    assert "Traceback" not in told
