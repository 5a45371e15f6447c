"""One run on several processes: really launched, really killed, and on the curve that one process has."""

import os
import signal

import psutil
import pytest
import torch
from safetensors.torch import load_file

from core.errors import UserError
from core.files import read_json
from core.workspace import Owner
from finetune.config.device import check_processes
from finetune.launch.local.launcher import LocalLauncher
from finetune.plan.prepare import import_data
from finetune.runs.checkpoint_config import keep_config
from finetune.runs.log import Journal
from finetune.runs.run import Run
from finetune.training.attempt import train
from finetune.training.checkpoints import whole_checkpoints
from finetune.training.distributed import join
from tests.processes import command_of
from tests.tiny.stages import run_of, staged
from tests.tiny.training import make_config, make_run, write_data

pytestmark = pytest.mark.matrix

CALM = {
    "optim__learning_rate": 0.002,
    "optim__epochs": 2000,
    "optim__schedule": "constant",
    "optim__warmup": 0,
    "optim__batch_size": 5,
    "optim__gradient_accumulation": 2,
    "lora": {"rank": 4, "dropout": 0},
    "watch__evaluate_every": 1000,
    "watch__checkpoint_every": 2,
}
"""A learning rate that no length of the run changes, so that runs of any length can be compared step by step."""


class Place:
    """A workspace of its own for the runs of this file, whose owner is the local person."""

    def __init__(self, folder, model):
        self.model = model
        self.data = write_data(folder / "data.json")
        self.owner = Owner("local")
        self.launcher = LocalLauncher()

    def start(self):
        config = make_config(self.model, self.data, **CALM, compute__processes=2)
        return Run(self.owner.runs / self.launcher.start(config, self.owner))

    def resume(self, run):
        self.launcher.resume(run, self.owner)


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESCOPE_HOME", str(folder / "home"))
        yield Place(folder, tiny_model)


@pytest.fixture(autouse=True)
def _here(place, monkeypatch):
    """These tests share the workspace of the module."""
    monkeypatch.setenv("TUNESCOPE_HOME", str(place.data.parent / "home"))


def _wait_for(run, reached):
    while not reached(progress := run.progress()):
        assert run.alive(), run.log_tail()
    return progress


def _below(run):
    """The processes that the worker started: the launcher, and those that train."""
    found = [(process, command_of(process)) for process in psutil.process_iter()]
    return [
        process
        for process, command in found
        if "finetune.launch.local.rank_process" in command and str(run.folder) in command
    ]


def _ranks(run):
    """The processes that train."""
    return [process for process in _below(run) if "--multi_gpu" not in command_of(process)]


def _change(run, **blocks):
    """Give a run other settings, as if its checkpoints had been made with them: its rate depends on none of these."""
    config = run.config()
    changed = {name: getattr(config, name).model_copy(update=values) for name, values in blocks.items()}
    run.save(config.model_copy(update=changed))
    for checkpoint in whole_checkpoints(run.checkpoints):
        keep_config(run.config(), checkpoint)


@pytest.fixture(scope="module")
def story(place):
    """One run on two processes, and what was seen of it: a process was killed, then the worker, then it was stopped
    as people do, and at last it went on with sharded weights to its end.

    Slow: two processes that find each other are started four times.
    """
    run, seen = place.start(), {}
    _wait_for(run, lambda progress: progress.step >= 6)
    seen["ranks"] = _ranks(run)
    seen["ranks"][1].kill()
    run.wait()
    seen["lost"] = run.status()
    place.resume(run)
    seen["left"] = _kill_the_worker(run)
    seen["killed"] = run.status()
    place.resume(run)
    seen["resumed"] = _wait_for(run, lambda progress: 0 < progress.started["step"] < progress.step)
    place.launcher.stop(run)
    run.wait()
    seen["stopped"] = run.status()
    seen["checkpoint"] = {path.name for path in (run.checkpoints / f"checkpoint-{run.progress().step}").iterdir()}
    _change(run, compute={"sharding": "fsdp"}, optim={"max_steps": seen["stopped"].step + 5})
    place.resume(run)
    run.wait()
    return run, seen


def _kill_the_worker(run):
    """As soon as it has started the others; returns those that live on."""
    while len(_ranks(run)) < 2:
        assert run.alive(), run.log_tail()
    below = _below(run)
    os.kill(read_json(run.folder / "handle.json")["pid"], signal.SIGKILL)
    run.wait()
    return psutil.wait_procs(below)[1]


@pytest.fixture(scope="module")
def alone(place, story):
    """The same run in this process."""
    run = make_run(place.owner, place.model, place.data, **CALM, optim__max_steps=story[0].progress().step)
    assert train(run, place.model, Journal(run), lambda: False) is False
    return run


def _losses(run):
    return {step: event["loss"] for step, event in run.progress().train.items()}


@pytest.mark.ci
def test_as_many_processes_as_asked_for_know_each_other(story):
    run, seen = story
    assert len(seen["ranks"]) == 2
    assert {event["processes"] for event in run.events()[0] if event["type"] == "started"} == {2}


@pytest.mark.ci
def test_two_processes_learn_on_the_curve_of_one_sharded_or_not(story, alone):
    run, _ = story
    assert run.status().status == "done", run.log_tail()
    assert "$ accelerate launch --multi_gpu --num_processes 2" in run.log_path.read_text()
    assert list(_losses(run)) == list(range(1, run.progress().step + 1))
    assert _losses(run) == pytest.approx(_losses(alone), rel=1e-4)
    step = run.progress().step
    assert run.progress().train[step]["tokens"] == alone.progress().train[step]["tokens"]
    for measured in (0, step):
        mine, theirs = (progress.evals[measured]["eval_loss"] for progress in (run.progress(), alone.progress()))
        assert mine == pytest.approx(theirs, rel=1e-4)


@pytest.mark.ci
def test_sharded_weights_come_out_whole(story, alone):
    run, _ = story
    assert {path.name for path in run.model.iterdir()} == {path.name for path in alone.model.iterdir()}
    mine, theirs = (load_file(each.model / "adapter_model.safetensors") for each in (run, alone))
    assert mine.keys() == theirs.keys()
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-3, atol=1e-4)


@pytest.mark.ci
def test_a_killed_process_ends_the_run_with_a_sentence(story):
    _, seen = story
    assert seen["lost"].status == "failed"
    assert "One of the 2 processes" in seen["lost"].error and "Resume" in seen["lost"].error


@pytest.mark.ci
def test_a_killed_worker_takes_its_processes_along(story):
    _, seen = story
    assert seen["left"] == []
    assert seen["killed"].status == "failed" and "Resume" in seen["killed"].error


@pytest.mark.ci
def test_all_processes_go_on_from_a_checkpoint_and_stop_at_one_step(story):
    run, seen = story
    began = seen["resumed"].started["step"]
    assert began % 2 == 0 and seen["stopped"].status == "stopped" and seen["stopped"].step > began
    assert {"rng_state_0.pth", "rng_state_1.pth", "optimizer.pt", "trainer_state.json"} <= seen["checkpoint"]
    assert not list(run.folder.glob(".meeting-*"))


def test_a_process_alone_goes_on_from_there_and_says_that_they_were_two(story, alone, place):
    run, _ = story
    ended = run.status().step
    _change(run, compute={"processes": 1, "sharding": "none"}, optim={"max_steps": ended + 1})
    run.log.write("queued", device="cpu")
    assert train(run, place.model, Journal(run), lambda: False) is False
    started = run.progress().started
    assert (started["step"], started["processes"], started["processes_before"]) == (ended, 1, 2)


def test_processes_that_were_launched_alone_refuse_to_train(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UserError, match=r"\(compute\.processes\) is 2, but the number of connected processes is 1"):
        join(2, "cpu")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"compute__processes": 65}, "from 1 to 64"),
        ({"compute__processes": 6}, "optim.batch_size"),
        ({"compute__sharding": "fsdp"}, "compute.processes to 2 or more"),
    ],
)
def test_what_cannot_be_shared_is_refused_before_there_is_a_run(place, changes, part):
    with pytest.raises(UserError, match=part):
        import_data(make_config(place.model, place.data, **{"optim__batch_size": 5, **changes}), place.owner)


@pytest.mark.parametrize(
    ("device", "part"), [("mps", 'a run on "mps" uses one process'), ("cuda", "this machine has 0 GPUs")]
)
def test_more_processes_than_devices_are_refused(place, monkeypatch, device, part):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    config = make_config(place.model, place.data, compute__processes=2, compute__device=device)
    with pytest.raises(UserError, match=part):
        check_processes(config, torch.device(device))


@pytest.mark.ci
@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_stages_on_two_processes_have_the_curve_of_one(place, tmp_path, sharding, cold):
    """Text in packed rows, answers, preferences with the reference's share of each process; full weights."""
    more = dict(method="full", optim__learning_rate=0.002, optim__batch_size=5, optim__epochs=2)
    objectives = ("pretrain", "sft", "dpo")
    config = staged(place.model, tmp_path, objectives, **more, compute__processes=2, compute__sharding=sharding)
    together = Run(place.owner.runs / place.launcher.start(config, place.owner))
    alone = run_of(place.owner, staged(place.model, tmp_path, objectives, **more), place.model)
    assert train(alone, place.model, Journal(alone), lambda: False) is False
    together.wait()
    assert together.status().status == "done", together.log_tail()
    mine, theirs = together.progress(), alone.progress()
    assert mine.started["processes"] == 2 and mine.started["stages"] == theirs.started["stages"]
    for name, table, other in (("loss", mine.train, theirs.train), ("eval_loss", mine.evals, theirs.evals)):
        assert {step: event[name] for step, event in table.items()} == pytest.approx(
            {step: event[name] for step, event in other.items()}, abs=2e-4
        )
    assert mine.evals[mine.steps]["preferred"] == theirs.evals[theirs.steps]["preferred"]
