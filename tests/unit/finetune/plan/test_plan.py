"""The sums of the plan: memory, seconds, what would fit, and what is kept."""

import json
from dataclasses import replace

import numpy as np
import pytest

from finetune.base_models.network import Network
from finetune.config.run_config import load_yaml, to_yaml, validate
from finetune.launch.jobs.estimate import estimate
from finetune.launch.jobs.flavors import FALLBACK
from finetune.methods import METHODS
from finetune.plan import calibration
from finetune.plan.card import Advice, smaller
from finetune.plan.durations import Pace, due, merged, of_stage, operations
from finetune.plan.machines import CHIPS, UNKNOWN, chip_of, free_disk, seconds_on
from finetune.plan.memory import ComputeSettings, activations, memory
from finetune.plan.record import outcome, plan_json
from finetune.plan.rows import Shapes
from finetune.runs.checkpoint_config import changed
from finetune.runs.run import Run
from tests.refusals import refused

FULL = Network(
    trainable=1_000_000,
    total=1_000_000,
    layers=4,
    width=64,
    heads=4,
    vocabulary=1000,
    products=900_000,
    head=64_000,
    kept=2000,
    kept_exact=500,
    gathers=True,
    packs=True,
    adapter=False,
)
LORA = replace(FULL, trainable=10_000, total=1_010_000, adapter=True)
HERE = ComputeSettings(width=2, cpu=False)
RAW = {"stages": [{"data": [{"dataset": "a" * 12}]}], "method": "full"}


def shapes(batches, held=(), steps=None, accumulation=1):
    found = np.array(batches)
    return Shapes(found, np.array(held).reshape(-1, 2), steps or len(found), accumulation, 0, 0.5, len(found))


def test_standing_memory_is_weights_masters_and_moments():
    few = memory(FULL, (1, 1), 1.0, HERE).standing - memory(LORA, (1, 1), 1.0, HERE).standing
    assert few == pytest.approx(2 * -10_000 + 12 * (1_000_000 - 10_000))
    exact = replace(HERE, width=4)
    assert memory(FULL, (1, 1), 1.0, exact).standing - 500e6 == pytest.approx((4 + 8) * 1_000_000)


def test_activations_grow_with_tokens_and_recomputing_keeps_a_layer():
    one, two = (activations(LORA, (rows, 100), HERE) for rows in (1, 2))
    assert two == 2 * one == 200 * (2000 * 2 + 500 * 4)
    assert activations(LORA, (1, 100), replace(HERE, recompute=True)) == 100 * 4 * 64 * 2 + one / 4


def test_attention_of_short_rows_is_kept_on_a_cpu_alone():
    on_cpu = replace(HERE, cpu=True)
    assert activations(LORA, (1, 320), on_cpu) - activations(LORA, (1, 320), HERE) == 320 * 4 * 320 * 4 * 2
    assert activations(LORA, (1, 321), on_cpu) == activations(LORA, (1, 321), HERE)


def test_accumulation_keeps_gradients_while_the_next_batch_is_computed():
    plain, accumulated = (memory(FULL, (8, 400), 0.5, replace(HERE, accumulation=many)).peak for many in (1, 4))
    assert accumulated - plain == pytest.approx(1.1 * 4 * 1_000_000)


def test_sharing_out_helps_each_gpu_and_costs_a_cpu_one_process_more():
    alone = memory(FULL, (8, 400), 0.5, HERE)
    assert memory(FULL, (8, 400), 0.5, replace(HERE, processes=2)).moving < alone.moving
    sharded = memory(FULL, (8, 400), 0.5, replace(HERE, processes=2, sharded=True))
    assert sharded.standing - 500e6 == pytest.approx((alone.standing - 500e6) / 2)
    both = memory(FULL, (8, 400), 0.5, replace(HERE, processes=2, cpu=True))
    assert both.standing == 2 * memory(FULL, (8, 400), 0.5, replace(HERE, cpu=True)).standing


def test_seconds_lie_on_the_line_between_what_was_measured():
    pace = Pace(((100.0, 1.0), (300.0, 2.0)))
    assert pace.batches(np.array([50.0, 100.0, 200.0, 300.0, 600.0])).tolist() == [0.5, 1.0, 1.5, 2.0, 4.0]


def test_a_stage_takes_its_steps_its_first_step_and_what_comes_between():
    pace = Pace(((100.0, 1.0),), first=5, update=0.25, held=0.01, sample=2, reference=0.001, checkpoint=3)
    spent = of_stage(shapes([(1, 100), (1, 300)], held=[(2, 50)], steps=10, accumulation=2), pace, 3, 4)
    assert spent.training == pytest.approx(10 * (2 * 2.0 + 0.25) + 5)
    assert spent.between == pytest.approx(3 * (100 * 0.01 + 2) + 4 * 3 + 0.001 * (100 + 400))
    assert spent.all == spent.training + spent.between


def test_evaluations_come_at_each_interval_and_at_the_end():
    assert [due(steps, 5) for steps in (1, 5, 6, 10, 11)] == [1, 1, 2, 2, 3]


def test_of_batches_of_one_size_the_middle_one_counts():
    assert merged([(10, 5.0), (10, 1.0), (10, 2.0), (4, 1.0)]) == ((4, 1.0), (10, 2.0))


def test_training_all_weights_takes_half_as_many_operations_again():
    layers = [operations(replace(one, head=0, layers=0), (1, 100), 1.0) for one in (LORA, FULL)]
    assert layers[1] == pytest.approx(6 * 100 * 900_000, rel=0.02)
    assert layers[0] == pytest.approx(4 * 100 * 900_000, rel=0.02)


def test_machines_are_known_by_the_names_of_the_hub():
    assert all(chip_of(one.accelerator) is CHIPS[one.accelerator] for one in FALLBACK if one.gpus)
    assert chip_of("NVIDIA A100-SXM4-80GB") is CHIPS["A100"] and chip_of("Moon 1") is UNKNOWN
    assert CHIPS["T4"].width == 4
    assert seconds_on(CHIPS["A100"], 8, 1e15, 0, 0) < seconds_on(CHIPS["L4"], 8, 1e15, 0, 0)
    assert seconds_on(None, 8, 1e12, 0, 0) == pytest.approx(seconds_on(None, 2, 1e12, 0, 0) / 4)


@pytest.mark.parametrize("method", METHODS)
def test_a_job_is_guessed_for_every_method_and_all_stages(method):
    one, two = ({**RAW, "method": method, "stages": RAW["stages"] * many} for many in (1, 2))
    machine = FALLBACK[6]
    seconds = [estimate(validate(raw), 10_000, machine, 1e9).seconds - 240 for raw in (one, two)]
    assert seconds[1] == pytest.approx(2 * seconds[0], abs=1)


def test_free_disk_is_that_of_the_folder_that_will_be_there(tmp_path):
    assert free_disk(tmp_path / "not" / "yet") == free_disk(tmp_path) > 0


def bytes_of(settings):
    """Eight rows of 1,000 tokens take 800; recomputing a quarter; an adapter half."""
    rows, length = settings.get("optim.batch_size", 8), settings.get("limits.max_length", 1000)
    share = 0.25 if settings.get("compute.recompute") else 1
    return rows * length / 10 * share * (0.5 if settings.get("method") else 1)


@pytest.mark.parametrize(
    ("most", "settings"),
    [
        (400, {"optim.batch_size": 4, "optim.gradient_accumulation": 2}),
        (100, {"optim.batch_size": 1, "optim.gradient_accumulation": 8}),
        (90, {"optim.batch_size": 2, "optim.gradient_accumulation": 4, "compute.recompute": True}),
        (20, {"optim.batch_size": 1, "optim.gradient_accumulation": 8, "compute.recompute": True, "method": "lora"}),
        (1, {}),
    ],
)
def test_the_mildest_change_that_fits_is_proposed(most, settings):
    """One row at a time keeps what is learned; recomputing costs time; an adapter and shorter rows learn else."""
    assert smaller(validate(RAW), 1000, bytes_of, most) == settings


def test_shorter_rows_are_the_last_resort():
    lora = validate({**RAW, "method": "lora"})
    assert smaller(lora, 1000, bytes_of, 10)["limits.max_length"] == 250


def test_advice_names_numbers_and_the_knobs_as_the_shell_takes_them():
    facts = {"needed": "9.1", "free": "3.0", "room": "8.0", "batch": 8, "length": 512, "method": "full"}
    text = str(Advice("plan.memory", facts, True, {"compute.recompute": True, "optim.batch_size": 2}))
    assert "9.1 GB" in text and "3.0 of 8.0 GB" in text
    assert "compute.recompute=true, optim.batch_size=2" in text
    assert "smaller model" in str(Advice("plan.memory", facts, True, {}))


def test_what_was_measured_is_kept_by_what_decides_it(tmp_path):
    config = validate(RAW)
    key = calibration.key_of(config, "f" * 64, "cpu")
    assert key == calibration.key_of(config.model_copy(update={"seed": 3}), "f" * 64, "cpu")
    others = (
        calibration.key_of(config, "e" * 64, "cpu"),
        calibration.key_of(config, "f" * 64, "cuda"),
        calibration.key_of(validate({**RAW, "optim": {"batch_size": 4}}), "f" * 64, "cpu"),
    )
    assert key not in others and calibration.cached_calibration(key) is None


def test_an_unreadable_measurement_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESCOPE_CACHE", str(tmp_path))
    (tmp_path / "plans").mkdir()
    for content in ("", "[]", "{}", '{"format": 1}', '{"format": 0, "peak": 1}'):
        (tmp_path / "plans" / "key.json").write_text(content)
        assert calibration.cached_calibration("key") is None


@pytest.fixture
def run(tmp_path):
    found = Run(tmp_path)
    here = {"place": "here", "basis": "measured", "memory_gb": 3.0, "train_seconds": 50.0, "seconds": 80.0}
    (tmp_path / "plan.json").write_text(json.dumps({"places": [here]}))
    found.log.write("queued", device="cpu")
    found.log.write("started", step=0, steps=4)
    return found


def test_a_plan_stands_beside_what_came(run):
    assert outcome(run) == [] and plan_json(run)["plan"]["outcome"] == {}
    run.log.write("train", step=4, tokens_per_s=1.0)
    run.log.write("done", step=4, seconds=100.0, train_seconds=40.0, memory_gb=2.0)
    assert [(one.name, one.ratio) for one in outcome(run)] == [
        ("memory_gb", 1.5),
        ("train_seconds", 1.25),
        ("seconds", 0.8),
    ]
    assert plan_json(run)["plan"]["outcome"]["memory_gb"] == {"planned": 3.0, "actual": 2.0, "ratio": 1.5}


def test_a_resumed_run_is_not_measured_by_its_last_attempt(run):
    run.log.write("queued", device="cpu")
    run.log.write("train", step=4, tokens_per_s=1.0)
    run.log.write("done", step=4, seconds=1.0, train_seconds=1.0, memory_gb=2.0)
    assert [one.name for one in outcome(run)] == ["memory_gb"]


def test_a_run_without_a_plan_says_nothing(tmp_path):
    assert outcome(Run(tmp_path)) == [] and plan_json(Run(tmp_path)) == {}


def test_a_config_says_its_version_and_a_newer_one_is_refused():
    config = validate(RAW)
    assert to_yaml(config).startswith("version: 1\n") and load_yaml(to_yaml(config)) == config
    refused("config.newer", validate, {**RAW, "version": 2, "strange": True})
    refused("config.invalid", validate, {**RAW, "version": 0})
    refused("config.invalid", validate, {**RAW, "version": "one"})


def test_only_where_and_how_it_is_computed_may_change_on_the_way():
    before = validate({**RAW, "optim": {"epochs": 2}})
    free = {"compute": {"processes": 2, "recompute": True}, "watch": {"log_every": 7}}
    assert list(changed(before, validate({**RAW, "optim": {"epochs": 2}, **free}))) == []
    assert list(changed(before, validate({**RAW, "optim": {"epochs": 3}}))) == ["optim.epochs was 2.0, is 3.0"]
    rounded = validate({**RAW, "optim": {"epochs": 2}, "compute": {"dtype": "float32"}})
    assert list(changed(before, rounded)) == ['compute.dtype was "auto", is "float32"']
