"""Runs as the shell starts them: real processes that are stopped, queued, killed and resumed."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from core import settings
from finetune.runs.run import Run
from tests.tiny.training import SETTINGS, write_data

SECRET = "hf_" + "s" * 34


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def config(place, tiny_model):
    """Write a config beside its data; returns a function that gives the file's path."""
    write_data(place / "data.json")

    def write(name, **changes):
        values = SETTINGS | {key.replace("__", "."): value for key, value in changes.items()}
        raw = {"model": str(tiny_model), "stages": [{"data": [{"path": "data.json"}]}]}
        for path, value in values.items():
            block, _, key = path.rpartition(".")
            (raw.setdefault(block, {}) if block else raw)[key] = value
        path = place / f"{name}.yaml"
        path.write_text(yaml.safe_dump(raw))
        return path

    return write


@pytest.fixture(scope="module")
def shell(place):
    """Run `python -m finetune ...` to its end in a workspace that these tests share."""
    own = {"TUNESCOPE_HOME": str(place / "home"), "HF_TOKEN": SECRET, "OMP_NUM_THREADS": "1"}

    def call(*words):
        command = [settings.python(), "-m", "finetune", *map(str, words)]
        return subprocess.run(command, env=os.environ | own, capture_output=True, text=True)

    return call


@pytest.fixture(scope="module")
def done(shell, config, place):
    """A run that the shell trained in the foreground, and what it printed."""
    result = shell("train", config("quick"), "--set", "optim.epochs=1")
    return Run(next((place / "home/local/runs").glob("r*"))), result


@pytest.fixture(scope="module")
def killed(shell, config, place):
    """A long run that was queued behind nobody, looked at while it worked, and killed with SIGKILL.

    Slow: two runs and five commands, each in a process of its own.
    """
    started = shell("start", config("long", optim__epochs=2000, watch__checkpoint_every=3))
    run = Run(place / "home/local/runs" / started.stdout.strip())
    _wait_for(run, lambda progress: progress.step >= 8)
    seen = {"start": started, "pid": _pid(run), **_look(_pid(run)), "status": json.loads(_status(shell, run).stdout)}
    seen["queued"] = _queue_behind(shell, config)
    seen["resume"] = shell("resume", run.id)
    os.kill(_pid(run), signal.SIGKILL)
    run.wait()
    return run, seen


def _wait_for(run, reached):
    """Until the events say so; a run that ends instead is a failure with its log."""
    while not reached(run.progress()):
        assert run.alive(), run.log_tail()


def _pid(run):
    return json.loads((run.folder / "handle.json").read_text())["pid"]


def _status(shell, run):
    return shell("status", run.id, "--json")


def _look(pid):
    process = Path(f"/proc/{pid}")
    return {name: (process / name).read_bytes() for name in ("environ", "cmdline")}


def _queue_behind(shell, config):
    """Start a second run, find it queued, stop it there."""
    second = shell("start", config("second")).stdout.strip()
    before = json.loads(shell("status", second, "--json").stdout)
    stop = shell("stop", second)
    return before, stop, json.loads(shell("status", second, "--json").stdout)


def test_a_run_in_the_foreground_ends_with_its_result(done):
    run, result = done
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    status = run.status()
    assert (status.status, status.step, status.steps) == ("done", 6, 6)
    assert status.eval_loss < run.progress().evals[0]["eval_loss"]
    assert "step 6/6" in result.stderr and "step 6/6" in run.log_tail()


def test_the_events_tell_all_that_a_page_shows(done):
    run, _ = done
    events = run.events()[0]
    assert [event["type"] for event in events][:2] == ["queued", "progress"]
    assert {"started", "train", "eval", "sample", "checkpoint", "done"} <= {event["type"] for event in events}
    step = run.progress().train[6]
    for figure in ("loss", "learning_rate", "tokens_per_s", "memory_gb", "eta_s", "epoch", "tokens"):
        assert isinstance(step[figure], int | float), figure
    assert set(run.progress().samples) == set(run.progress().evals) == {0, 5, 6}


def test_the_adapter_loads_with_plain_peft_and_names_no_path_of_this_machine(done, tiny_model):
    from peft import PeftModel

    run, _ = done
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), run.model)
    assert AutoTokenizer.from_pretrained(run.model).chat_template
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        tuned = model(ids).logits
        with model.disable_adapter():
            assert not torch.allclose(tuned, model(ids).logits, atol=1e-3)
    names = {path.name for path in run.model.iterdir()}
    assert names >= {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tunescope.json"}
    assert not any(name.endswith((".bin", ".pt", ".pth", "README.md")) for name in names)
    for path in run.model.glob("*.json"):
        assert str(tiny_model.parent) not in path.read_text()


def test_what_the_run_ran_on_is_written_down(done):
    run, _ = done
    recorded = run.environment()
    assert {"base", "asked", "revision", "fingerprint", "versions", "device", "dtype"} <= recorded.keys()
    assert recorded["dtype"] == "float32" and len(recorded["fingerprint"]) >= 32
    assert run.config().stages[0].data[0].path is None


def test_a_run_that_is_done_is_not_resumed_or_stopped(done, shell):
    run, _ = done
    for word, part in (("resume", "nothing to resume"), ("stop", "nothing to stop")):
        result = shell(word, run.folder)
        assert (result.returncode, result.stdout) == (2, "") and part in result.stderr


def test_start_prints_the_id_alone_and_the_run_goes_on_by_itself(killed):
    run, seen = killed
    assert seen["start"].stdout == f"{run.id}\n" and seen["start"].returncode == 0
    assert seen["status"]["status"] == "running" and seen["status"]["steps"] == 12000


def test_the_process_of_a_run_knows_no_token(killed):
    _, seen = killed
    assert SECRET.encode() not in seen["environ"] + seen["cmdline"]
    assert b"HF_HUB_OFFLINE=1" in seen["environ"]


def test_a_second_run_waits_its_turn_and_can_be_stopped_there(killed):
    _, seen = killed
    before, stop, after = seen["queued"]
    assert before["status"] == "queued"
    assert stop.returncode == 0
    assert (after["status"], after["step"]) == ("stopped", 0)


def test_a_second_resume_is_refused_while_the_run_is_at_work(killed):
    _, seen = killed
    assert seen["resume"].returncode == 2
    assert "still running" in seen["resume"].stderr


def test_a_killed_run_has_failed_with_the_end_of_its_log(killed, shell):
    run, _ = killed
    status = json.loads(_status(shell, run).stdout)
    assert status["status"] == "failed"
    assert "step" in status["error"] and "Resume" in status["error"]


def test_a_killed_run_is_resumed_and_then_stopped_with_a_checkpoint(killed, shell):
    run, _ = killed
    kept = max(int(path.name.rpartition("-")[2]) for path in run.checkpoints.glob("checkpoint-*"))
    assert shell("resume", run.id).stdout == f"{run.id}\n"
    _wait_for(run, lambda progress: progress.attempt == 2 and progress.started["step"] == kept < progress.step)
    assert shell("stop", run.folder).returncode == 0
    status = run.status()
    assert status.status == "stopped"
    assert (run.checkpoints / f"checkpoint-{status.step}").is_dir()
    assert list(run.progress().train) == list(range(1, status.step + 1))


def test_ctrl_c_in_the_foreground_saves_a_checkpoint_and_stops(shell, config, place):
    own = {"TUNESCOPE_HOME": str(place / "other"), "OMP_NUM_THREADS": "1"}
    command = [settings.python(), "-m", "finetune", "train", str(config("interrupted", optim__epochs=2000))]
    process = subprocess.Popen(command, env=os.environ | own, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "step 2/" in line:
            process.send_signal(signal.SIGINT)
            break
    process.communicate()
    assert process.returncode == 1
    run = Run(next((place / "other/local/runs").glob("r*")))
    status = run.status()
    assert status.status == "stopped" and (run.checkpoints / f"checkpoint-{status.step}").is_dir()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["train", "nowhere.yaml"], "nowhere.yaml"),
        (["check", "nowhere.json"], "nowhere.json"),
        (["status", "r20200101-000000-0000"], 'Run "r20200101-000000-0000" was not found'),
        (["status", "../../etc"], "../../etc"),
        (["stop", "/etc"], "/etc"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_2(shell, words, part):
    result = shell(*words)
    assert (result.returncode, result.stdout) == (2, "")
    assert part in result.stderr and result.stderr.count("\n") == 1


def test_a_config_that_cannot_run_is_refused_before_there_is_a_run(shell, config, place):
    before = len(list((place / "home/local/runs").glob("r*")))
    for command, changes, part in (("start", {"limits__max_length": 100_000}, "512"), ("train", {"seed": -1}, "seed")):
        result = shell(command, config("bad", **changes))
        assert (result.returncode, result.stdout) == (2, ""), result.stderr
        assert part in result.stderr
    assert len(list((place / "home/local/runs").glob("r*"))) == before


def test_check_of_a_config_says_what_it_comes_to(shell, config):
    result = shell("check", config("quick"), "--json")
    assert result.returncode == 0, result.stderr
    assert {"rows": 24, "steps": 12, "method": "lora"}.items() <= json.loads(result.stdout).items()
