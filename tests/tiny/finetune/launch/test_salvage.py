"""What a run that failed or was stopped has learned is not lost: its newest whole checkpoint becomes its result."""

import os
import shutil
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from core.errors import UserError
from core.files import read_json
from finetune.cli.main import main
from finetune.launch.keep_checkpoint import keep
from finetune.launch.local.launcher import LocalLauncher
from finetune.runs.failure_reasons import explain
from finetune.runs.log import Journal
from finetune.runs.run import Run
from finetune.training.attempt import train
from finetune.training.trainer import RunTrainer
from inference.models.fingerprint import fingerprint
from tests.tiny.training import make_config, make_run, write_data


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data.json")


def _made(owner, model, data, **changes):
    run = make_run(owner, model, data, **changes)
    text = (run.folder / "env.json").read_text()
    (run.folder / "env.json").write_text(text.replace("0" * 64, fingerprint(model)))
    return run


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_is_kept_is_laid_out_as_a_result_is(owner, tiny_model, data, method):
    run = _made(owner, tiny_model, data, method=method, watch__checkpoint_every=4)
    assert train(run, tiny_model, Journal(run), lambda: False) is False
    result = _files(run.model)
    shutil.rmtree(run.model)
    run.log.write("queued", device="cpu")
    run.log.write("failed", step=run.progress().step, error="x")
    assert keep(run, owner) == run.progress().steps
    assert _files(run.model) == result and run.status().status == "done"


def test_a_killed_run_is_kept_from_the_shell_and_is_done(owner, tiny_model, data, capsys):
    config = make_config(tiny_model, data, optim__epochs=3000, watch__checkpoint_every=2, watch__evaluate_every=500)
    run = Run(owner.runs / LocalLauncher().start(config, owner))
    while not list(run.checkpoints.glob("checkpoint-*/trainer_state.json")):
        time.sleep(0.05)
    with pytest.raises(UserError) as caught:
        keep(run, owner)
    assert caught.value.code == "run.alive"
    os.kill(read_json(run.folder / "handle.json")["pid"], signal.SIGKILL)
    run.wait()
    newest = max(
        int(path.parent.name.split("-")[1]) for path in run.checkpoints.glob("checkpoint-*/trainer_state.json")
    )
    assert main(["keep", run.id]) == 0
    assert f"step {newest}" in capsys.readouterr().out
    progress = run.progress()
    assert (progress.ending, progress.kept, progress.step) == ("done", newest, newest) and max(progress.train) <= newest
    kept = load_file(run.model / "adapter_model.safetensors")
    there = load_file(run.checkpoints / f"checkpoint-{newest}" / "adapter_model.safetensors")
    assert all(torch.equal(kept[name], there[name]) for name in there)
    assert main(["keep", run.id]) == 2 and "has finished and has a result" in capsys.readouterr().err


@pytest.mark.ci
def test_a_run_whose_loss_became_no_number_names_the_command_and_it_works(owner, tiny_model, data, monkeypatch):
    run = _made(owner, tiny_model, data, optim__epochs=6, watch__checkpoint_every=3)
    loss = RunTrainer.compute_loss
    broken = lambda self, *given, **more: loss(self, *given, **more) * (float("nan") if self.step > 7 else 1)  # noqa: E731
    monkeypatch.setattr(RunTrainer, "compute_loss", broken)
    with pytest.raises(UserError) as caught:
        train(run, tiny_model, Journal(run), lambda: False)
    sentence = str(explain(caught.value, run.config(), 8, "cpu", run.folder))
    run.log.write("failed", step=8, error=sentence)
    assert f"python -m finetune keep {run.id}" in run.status().error
    assert main(["keep", run.id]) == 0
    assert run.status().status == "done" and run.progress().kept == 6
    weights = load_file(run.model / "adapter_model.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())


def test_without_a_checkpoint_there_is_nothing_to_keep(owner, tiny_model, data):
    run = _made(owner, tiny_model, data)
    run.log.write("stopped", step=0)
    with pytest.raises(UserError) as caught:
        keep(run, owner)
    assert caught.value.code == "run.nothing_to_keep" and not run.model.exists() and not run.held()


def test_a_full_disk_leaves_no_half_result(owner, tiny_model, data, monkeypatch):
    run = _made(owner, tiny_model, data, watch__checkpoint_every=4)
    train(run, tiny_model, Journal(run), lambda: run.progress().step >= 5)
    copied = shutil.copyfile

    def full(source, target):
        copied(source, target)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("finetune.launch.keep_checkpoint.shutil.copyfile", full)
    with pytest.raises(UserError):
        keep(run, owner)
    assert not run.model.exists() and run.status().status == "stopped" and not list(run.folder.glob(".*.part"))
