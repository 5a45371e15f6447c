"""One run on several processes: really launched, really killed, and on the curve that one process has."""

import os
import signal

import psutil
import pytest

from core.errors import UserError
from finetune.journal import Journal
from finetune.launch.local import LocalLauncher
from finetune.prepare import import_data
from finetune.run import Run
from finetune.team import join
from finetune.training import train
from tests.tiny.training import make_config, make_run, write_data

CALM = {
    "optim__learning_rate": 0.002,
    "optim__epochs": 2000,
    "optim__schedule": "constant",
    "optim__warmup": 0,
    "optim__batch_size": 5,
    "lora": {"rank": 4, "dropout": 0},
    "watch__evaluate_every": 1000,
    "watch__checkpoint_every": 2,
}
"""A learning rate that no length of the run changes, so that runs of any length can be compared step by step."""


class Place:
    """A workspace of its own for the runs of this file, whose owner is the local person."""

    def __init__(self, folder, model):
        from core.workspace import Owner

        self.model = model
        self.data = write_data(folder / "data.json")
        self.owner = Owner("local")
        self.launcher = LocalLauncher()

    def start(self, **changes):
        config = make_config(self.model, self.data, **CALM, compute__processes=2, **changes)
        return Run(self.owner.runs / self.launcher.start(config, self.owner))

    def resume(self, run):
        """Go on, and come back when the processes train."""
        self.launcher.resume(run, self.owner)
        return _wait_for(run, lambda progress: 0 < progress.started["step"] < progress.step)


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("processes")
    before = os.environ.get("TUNESCOPE_HOME")
    os.environ["TUNESCOPE_HOME"] = str(folder / "home")
    yield Place(folder, tiny_model)
    os.environ["TUNESCOPE_HOME"] = before or ""


@pytest.fixture(autouse=True)
def _here(place, monkeypatch):
    """These tests share the workspace of the module."""
    monkeypatch.setenv("TUNESCOPE_HOME", str(place.data.parent / "home"))


def _wait_for(run, reached):
    while not reached(progress := run.progress()):
        assert run.alive(), run.log_tail()
    return progress


def _worker(run):
    from core.files import read_json

    return psutil.Process(read_json(run.folder / "handle.json")["pid"])


def _ranks(run):
    below = _worker(run).children(recursive=True)
    return [
        process for process in below if "finetune.rank" in process.cmdline() and "--multi_gpu" not in process.cmdline()
    ]


@pytest.fixture(scope="module")
def copies(place):
    """A run on two processes: its worker was killed with SIGKILL, then it was resumed, and stopped as people do."""
    run = place.start()
    _wait_for(run, lambda progress: progress.step >= 6)
    worker, below = _worker(run), _worker(run).children(recursive=True)
    seen = {"ranks": len(_ranks(run))}
    worker.send_signal(signal.SIGKILL)
    run.wait()
    seen["left"] = psutil.wait_procs(below)[1]
    seen["killed"] = run.status()
    seen["resumed"] = place.resume(run)
    place.launcher.stop(run)
    run.wait()
    return run, seen


@pytest.fixture(scope="module")
def sharded(place):
    """A run whose weights are shared out: one of its processes was killed, then it was resumed to its end."""
    run = place.start(compute__sharding="fsdp")
    _wait_for(run, lambda progress: progress.step >= 4)
    _ranks(run)[1].send_signal(signal.SIGKILL)
    run.wait()
    killed = run.status()
    config = run.config()
    run.save(config.model_copy(update={"optim": config.optim.model_copy(update={"max_steps": killed.step + 3})}))
    place.resume(run)
    run.wait()
    return run, killed


@pytest.fixture(scope="module")
def alone(place, copies, sharded):
    """The same run in this process, as far as the others came."""
    longest = max(run.progress().step for run, _ in (copies, sharded))
    run = make_run(place.owner, place.model, place.data, **CALM, optim__max_steps=longest)
    assert train(run, place.model, Journal(run), lambda: False) is False
    return run


def _losses(run):
    return {step: event["loss"] for step, event in run.progress().train.items()}


def test_as_many_processes_as_asked_for_know_each_other(copies):
    run, seen = copies
    assert seen["ranks"] == 2
    assert run.progress().started["processes"] == 2


def test_two_processes_learn_on_the_curve_of_one(copies, alone):
    run, _ = copies
    losses, expected = _losses(run), _losses(alone)
    assert list(losses) == list(range(1, run.progress().step + 1))
    assert losses == pytest.approx({step: expected[step] for step in losses}, rel=1e-4)
    step = run.progress().step
    assert run.progress().train[step]["tokens"] == alone.progress().train[step]["tokens"]
    assert run.progress().evals[0]["eval_loss"] == pytest.approx(alone.progress().evals[0]["eval_loss"], rel=1e-4)


def test_a_killed_worker_takes_its_processes_along(copies):
    _, seen = copies
    assert seen["left"] == []
    assert seen["killed"].status == "failed" and "Resume" in seen["killed"].error


def test_all_processes_go_on_from_a_checkpoint_and_stop_at_one_step(copies):
    run, seen = copies
    status = run.status()
    assert seen["resumed"].started["step"] % 2 == 0 and seen["resumed"].started["processes_before"] == 2
    assert status.status == "stopped" and status.step > seen["resumed"].started["step"]
    checkpoint = run.checkpoints / f"checkpoint-{status.step}"
    assert {"rng_state_0.pth", "rng_state_1.pth", "optimizer.pt", "trainer_state.json"} <= {
        path.name for path in checkpoint.iterdir()
    }
    assert not list(run.folder.glob(".meeting-*"))


def test_a_process_alone_goes_on_from_there_and_says_that_they_were_two(copies, alone, place):
    run, _ = copies
    stopped = run.status().step
    config = run.config()
    fewer = {
        "compute": config.compute.model_copy(update={"processes": 1}),
        "optim": config.optim.model_copy(update={"max_steps": stopped + 1}),
    }
    run.save(config.model_copy(update=fewer))
    run.log.write("queued", device="cpu")
    assert train(run, place.model, Journal(run), lambda: False) is False
    started = run.progress().started
    assert (started["step"], started["processes"], started["processes_before"]) == (stopped, 1, 2)
    assert run.model.is_dir()


def test_a_killed_process_ends_the_run_with_a_sentence(sharded):
    _, killed = sharded
    assert killed.status == "failed"
    assert "One of the 2 processes" in killed.error and "Resume" in killed.error


def test_sharded_weights_learn_on_the_same_curve_and_come_out_whole(sharded, alone):
    run, killed = sharded
    status = run.status()
    assert (status.status, status.step) == ("done", killed.step + 3), run.log_tail()
    expected = _losses(alone)
    assert _losses(run) == pytest.approx({step: expected[step] for step in _losses(run)}, rel=1e-4)
    if status.step == alone.status().step:
        _same_weights(run, alone)
    assert {path.name for path in run.model.iterdir()} == {path.name for path in alone.model.iterdir()}


def _same_weights(first, second):
    import torch
    from safetensors.torch import load_file

    mine, theirs = (load_file(run.model / "adapter_model.safetensors") for run in (first, second))
    assert mine.keys() == theirs.keys()
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-3, atol=1e-4)


def test_processes_that_were_launched_alone_refuse_to_train(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UserError, match=r"compute\.processes is 2, but 1 came together"):
        join(2, "cpu")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"compute__processes": 65}, "between 1 and 64"),
        ({"compute__processes": 6}, "optim.batch_size"),
        ({"compute__sharding": "fsdp"}, "compute.processes to 2 or more"),
    ],
)
def test_what_cannot_be_shared_is_refused_before_there_is_a_run(place, changes, part):
    with pytest.raises(UserError, match=part):
        import_data(make_config(place.model, place.data, **{"optim__batch_size": 5, **changes}), place.owner)
