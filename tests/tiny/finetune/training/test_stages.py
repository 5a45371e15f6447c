"""Several stages as one run: text, answers, preferences; stopped anywhere it goes on as if it never had been."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from finetune.runs.log import Journal
from finetune.training.attempt import train
from tests.tiny.stages import run_of, staged

pytestmark = pytest.mark.matrix

ALL = ("pretrain", "sft", "dpo")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _go(run, model, stop=lambda: False):
    return train(run, model, Journal(run), stop)


def _seen(run):
    """Loss, rate and what else a step wrote that does not depend on time, by step; the same of the evaluations."""
    timed = ("t", "tokens_per_s", "eta_s", "memory_gb")
    progress = run.progress()
    return [
        {step: {name: value for name, value in event.items() if name not in timed} for step, event in table.items()}
        for table in (progress.train, progress.evals, progress.begins)
    ]


def _weights(run):
    return load_file(next(run.model.glob("*.safetensors")))


def test_three_stages_are_one_run_and_each_learns_its_own(owner, tiny_model, tmp_path):
    run = run_of(owner, staged(tiny_model, tmp_path, ALL, optim__epochs=3), tiny_model)
    assert _go(run, tiny_model) is False
    progress = run.progress()
    stages = progress.started["stages"]
    assert [stage["objective"] for stage in stages] == list(ALL)
    assert stages[0]["rows"] < stages[0]["tally"]["kept"], "short texts share rows"
    assert list(progress.train) == list(range(1, progress.steps + 1))
    assert [event["stage"] for event in progress.train.values()] == sorted(
        stage["stage"] for stage in stages for _ in range(stage["stage_steps"])
    )
    for stage in stages:
        last = stage["first_step"] + stage["stage_steps"]
        before = progress.begins.get(stage["stage"]) or progress.evals[0]
        assert progress.evals[last]["eval_loss"] < before["eval_loss"], stage["objective"]
    begun = progress.begins[2]
    assert begun["eval_loss"] == pytest.approx(0.6931, abs=1e-3), "the model does not differ from its reference yet"
    assert progress.evals[progress.steps]["preferred"] == 1 and progress.evals[progress.steps]["reward_chosen"] > 0
    assert run.status().status == "done" and not list(run.folder.glob(".*.part"))


@pytest.mark.ci
@pytest.mark.parametrize("method", [{"method": "lora", "compute__dtype": "bfloat16"}, {"method": "freeze"}])
def test_stopped_at_every_step_it_goes_on_as_if_it_had_not_been(owner, tiny_model, tmp_path, method):
    config = staged(tiny_model, tmp_path, ALL, optim__batch_size=8, optim__neftune=5.0, **method)
    whole, broken = run_of(owner, config, tiny_model), run_of(owner, config, tiny_model)
    assert _go(whole, tiny_model) is False
    steps = whole.progress().steps
    for step in range(1, steps):
        assert _go(broken, tiny_model, lambda step=step: broken.progress().step >= step) is True, step
        assert broken.progress().step <= step + 1
        broken.log.write("queued", device="cpu")
    assert _go(broken, tiny_model) is False
    assert _seen(whole) == _seen(broken)
    mine, theirs = _weights(whole), _weights(broken)
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_without_anything_better_a_stage_ends_early_and_the_best_is_its_result(owner, tiny_model, tmp_path):
    config = staged(
        tiny_model,
        tmp_path,
        ("sft",),
        optim__epochs=30,
        optim__learning_rate=0.3,
        optim__early_stopping=2,
        optim__keep_best=True,
        watch__evaluate_every=2,
        watch__checkpoint_every=50,
    )
    run = run_of(owner, config, tiny_model)
    assert _go(run, tiny_model) is False
    progress = run.progress()
    losses = {step: event["eval_loss"] for step, event in progress.evals.items() if step}
    best = min(losses, key=losses.get)
    assert max(losses) == best + 4 < progress.steps and run.status().status == "done"
    kept = torch.load(run.checkpoints / f"checkpoint-{best}" / "optimizer.pt", weights_only=True)["masters"]
    assert all(
        any(torch.equal(weight, master) for master in kept) for name, weight in _weights(run).items() if "lora" in name
    )


def test_the_best_is_the_result_also_of_a_run_that_was_killed_before_it_saved(owner, tiny_model, tmp_path):
    same = dict(optim__epochs=4, optim__learning_rate=0.3, optim__keep_best=True, watch__evaluate_every=2)
    run = run_of(owner, staged(tiny_model, tmp_path, ("sft",), **same), tiny_model)
    _go(run, tiny_model)
    before = _weights(run)
    shutil.rmtree(run.model)
    run.log.write("queued", device="cpu")
    assert _go(run, tiny_model) is False
    assert all(torch.equal(weight, before[name]) for name, weight in _weights(run).items())
