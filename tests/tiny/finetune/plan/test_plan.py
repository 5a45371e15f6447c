"""The plan against real processes: what is tried out, what a run then is, what is refused before it begins."""

import json
import os
import re
import subprocess
import threading
from pathlib import Path

import pytest
import yaml

from core import settings
from finetune.config.run_config import validate
from finetune.data.importing.importer import import_file
from finetune.data.store import list_datasets
from finetune.plan import calibration
from finetune.plan.planner import Planner, plan_for_start, plan_of
from finetune.plan.prepare import RunInputs, check_run, import_data, run_inputs
from finetune.plan.record import outcome
from finetune.runs.run import Run
from inference.models.locate import fetch
from inference.models.types import Fetched
from tests.refusals import refused
from tests.tiny.training import SETTINGS, make_config, write_data
from tests.tiny_model import make_tiny_tokenizer

pytestmark = pytest.mark.matrix


def call(home, *words):
    command = [settings.python(), "-m", "finetune", *map(str, words)]
    environment = os.environ | {"TUNESCOPE_HOME": str(home)}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_model):
    """A config beside its data, with a cache that these tests share."""
    folder = tmp_path_factory.mktemp("plan")
    write_data(folder / "rows.json", 60)
    raw = {"model": str(tiny_model), "stages": [{"data": [{"path": "rows.json"}]}]}
    for path, value in SETTINGS.items():
        block, _, key = path.rpartition(".")
        raw.setdefault(block, {})[key] = value
    (folder / "c.yaml").write_text(yaml.safe_dump(raw))
    return folder


@pytest.fixture(scope="module")
def shown(place):
    """What `check --plan` says of it, and what a start that follows comes to."""
    os.environ["TUNESCOPE_CACHE"] = str(place / "cache")
    checked = call(place / "home", "check", place / "c.yaml", "--plan", "--json")
    spoken = call(place / "home", "check", place / "c.yaml", "--plan")
    trained = call(place / "home", "train", place / "c.yaml")
    run = Run(next((place / "home/local/runs").glob("r*")))
    status = call(place / "home", "status", run.id, "--json")
    assert checked.returncode == 0, checked.stderr
    assert trained.returncode == 0, trained.stderr
    return checked, spoken, run, json.loads(status.stdout)


def test_the_card_counts_what_the_run_then_has(shown):
    checked, _, run, _ = shown
    plan, started = json.loads(checked.stdout)["plan"], run.progress().started
    for name in ("trainable", "total", "steps"):
        assert plan[name] == started[name], name
    assert (plan["rows"], plan["held"]) == (60, started["validation_rows"])
    tokens = [event["tokens"] for event in run.events()[0] if event["type"] == "done"]
    assert [plan["tokens"]] == pytest.approx(tokens, rel=0.01)
    assert plan["padded"] >= plan["tokens"]


def test_memory_is_within_a_quarter_of_what_came(shown):
    """The seconds of such a model say nothing; those of a real one are measured by the benchmark."""
    _, _, run, status = shown
    figures = {figure.name: figure for figure in outcome(run)}
    assert figures["memory_gb"].ratio == pytest.approx(1, abs=0.25)
    assert figures.keys() == {"memory_gb", "train_seconds", "seconds"}
    assert status["plan"]["basis"] == "measured"
    assert status["plan"]["outcome"]["train_seconds"]["actual"] > 0


def test_the_shell_prints_the_card_and_tries_out_once(shown):
    checked, spoken, _, _ = shown
    assert "Dry run of the first steps" in checked.stderr and "Dry run" not in spoken.stderr
    assert "this machine (" in spoken.stdout and "a10g-small" in spoken.stdout and "$" in spoken.stdout
    assert "dry run of the first steps on this device" in spoken.stdout


def planned(config, owner, **options):
    """Return the plan of a config whose data and base are brought here for it, as by a check."""
    with run_inputs(config, owner, options.get("progress"), options.get("stop")) as inputs:
        return plan_of(inputs, owner, **options)


def test_a_plan_leaves_no_data_no_run_and_no_folder(owner, tmp_path, tiny_model, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    told = []
    config = make_config(tiny_model, write_data(tmp_path / "rows.json"))
    plan = planned(config, owner, calibrate=True, progress=told.append)
    assert plan.calibrated and told[-1].unit == "steps" and told[-1].total >= 2
    assert list_datasets(owner) == [] and not list(owner.runs.glob("*"))
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.ci
@pytest.mark.parametrize(
    "changes",
    [{"optim__gradient_accumulation": 3}, {"method": "full"}, {"compute__recompute": True}, {"limits__validation": 0}],
)
def test_other_ways_to_train_are_tried_out_too(owner, tmp_path, tiny_model, changes):
    plan = planned(make_config(tiny_model, write_data(tmp_path / "rows.json"), **changes), owner, calibrate=True)
    assert plan.calibrated and plan.here.training > 0
    assert bool(plan.notes) == ("limits__validation" in changes)


@pytest.mark.ci
def test_stages_are_planned_together(owner, tmp_path, tiny_model, cold):
    texts, pairs = tmp_path / "texts.jsonl", tmp_path / "pairs.jsonl"
    texts.write_text("".join(json.dumps({"text": f"the number {row} " * 9}) + "\n" for row in range(30)))
    answers = {side: [{"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    asked = [[{"role": "user", "content": f"how many, {row}?"}] for row in range(20)]
    pairs.write_text("".join(json.dumps({"prompt": prompt, **answers}) + "\n" for prompt in asked))
    raw = make_config(tiny_model, write_data(tmp_path / "rows.json")).model_dump(mode="json", exclude_none=True)
    raw["stages"] = [
        {"objective": "pretrain", "data": [{"path": str(texts)}]},
        {"objective": "sft", "data": [{"path": str(tmp_path / "rows.json")}]},
        {"objective": "dpo", "data": [{"path": str(pairs)}]},
    ]
    with run_inputs(validate(raw), owner) as looked:
        planner = Planner.read(looked, owner)
        planner.calibrate()
    assert len(planner.estimator.measured.stages) == 3
    packed, _, compared = planner.estimator.shapes
    assert compared.largest[0] == 2 * 4 and packed.largest[1] > 80
    assert planner.plan().steps == sum(shape.steps for shape in planner.estimator.shapes)


def test_a_trial_that_is_stopped_ends_its_process(owner, tmp_path, tiny_model):
    stop, folders = threading.Event(), []

    def tick(progress):
        if progress.unit == "steps":
            folders.append(progress)
            stop.set()

    config = make_config(tiny_model, write_data(tmp_path / "rows.json"))
    refused("models.stopped", planned, config, owner, calibrate=True, progress=tick, stop=stop)
    assert folders and not _trials()


def _trials():
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
    return [line for line in lines if b"finetune.plan.trial" in line and str(os.getpid()).encode() in line]


def test_a_trial_that_fails_says_why(owner, tmp_path, tiny_model):
    """Weights that are not there are found out by the trial alone."""
    with run_inputs(make_config(tiny_model, write_data(tmp_path / "rows.json")), owner) as looked:
        planner = Planner.read(looked, owner)
        (tmp_path / "empty").mkdir()
        base = Fetched(tmp_path / "empty", "a", "a", None, False, "0" * 64, 512)
        planner.inputs = RunInputs(looked.config, looked.datasets, base)
        refused("plan.trial_failed", calibration.calibrate, looked.config, base, [], "key", 4)
    assert calibration.cached_calibration("key") is None


@pytest.fixture
def giant(tmp_path):
    """The small files of a model that no machine here can train; it has no weights."""
    from transformers import LlamaConfig

    folder = tmp_path / "giant"
    tokenizer = make_tiny_tokenizer()
    LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16384, intermediate_size=65536, num_hidden_layers=120
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Fetched(folder, "giant", "giant", None, False, "0" * 64, 2048)


@pytest.mark.ci
def test_what_surely_does_not_fit_is_refused_before_it_starts(owner, tmp_path, tiny_model, giant):
    config = import_data(make_config(tiny_model, write_data(tmp_path / "rows.json"), method="full"), owner)
    sentence = refused("plan.memory", plan_for_start, config, owner, giant)
    needed = max(float(number) for number in re.findall(r"[\d.]+(?= GB)", sentence.replace(",", "")))
    assert needed > 1000 and "smaller model" in sentence
    assert "4" in refused("plan.memory", Planner.read(_looked(config, owner, giant), owner).calibrate)


def _looked(config, owner, base):
    return RunInputs(config, [list_datasets(owner)], base)


def test_a_disk_without_room_for_checkpoints_refuses_the_start(owner, tmp_path, tiny_model):
    """A LoRA of the largest rank on a large layer, for which this tmpfs is too small."""
    from tests.small_disk import small_disk

    config = import_data(make_config(tiny_model, write_data(tmp_path / "rows.json"), method="full"), owner)
    base = fetch_tiny(tiny_model, owner)
    with small_disk(tmp_path / "small", "1m") as disk:
        owner.runs.parent.mkdir(parents=True, exist_ok=True)
        owner.runs.symlink_to(disk)
        sentence = refused("plan.disk", plan_for_start, config, owner, base)
    assert "method=lora" in sentence


def fetch_tiny(model, owner):
    from core.references import parse, resolve

    return fetch(resolve(parse(str(model), owner), owner).base, owner.token, owner=owner)


@pytest.mark.ci
def test_many_rows_are_planned_by_a_sample_of_all_parts(owner, tmp_path, tiny_model):
    """The long rows stand at the end: the first ones alone would say nothing of them."""
    rows = [{"prompt": "how long?", "completion": "and more " * (1 if row < 5000 else 9)} for row in range(6000)]
    for number, row in enumerate(rows):
        row["prompt"] += str(number)
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    plan = planned(make_config(tiny_model, tmp_path / "rows.json", limits__max_length=256), owner)
    assert plan.rows == 6000 and plan.seen <= 2000 and len(plan.notes) == 1
    with run_inputs(make_config(tiny_model, tmp_path / "rows.json", limits__max_length=256), owner) as looked:
        whole = Planner.read(looked, owner, most=6000).plan()
    assert whole.notes == () and plan.tokens == pytest.approx(whole.tokens, rel=0.02)
    assert plan.steps == whole.steps and plan.largest == whole.largest


def test_one_row_can_be_learned_and_nothing_is_held_out(owner, tmp_path, tiny_model):
    data = write_data(tmp_path / "rows.json", 1)
    refused("run.one_row", planned, make_config(tiny_model, data, optim__epochs=1), owner)
    plan = planned(make_config(tiny_model, data, optim__epochs=1, limits__validation=0), owner)
    assert (plan.rows, plan.held, plan.steps) == (1, 0, 1)
    assert "No rows are held out" in plan.notes[0]


def test_rows_that_are_all_too_long_are_refused_by_check_and_start(owner, tmp_path, tiny_model):
    rows = [{"prompt": "tea and more " * 40 + str(row), "completion": "yes"} for row in range(8)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    config = make_config(tiny_model, tmp_path / "rows.json", limits__max_length=16)
    refused("run.no_labels", check_run, config, owner)
    refused("run.no_labels", plan_for_start, import_data(config, owner), owner, fetch_tiny(tiny_model, owner))


def test_the_file_of_a_dataset_is_read_in_parts(owner, tmp_path):
    dataset = import_file(write_data(tmp_path / "rows.json", 3000), owner)
    some = list(dataset.spread(3000, 60))
    assert len(some) <= 60 and max(place for place, _ in some) > 2900
    rows = dataset.rows()
    assert all(row == rows[place] for place, row in some)
    assert [place for place, _ in dataset.spread(10, 100)] == list(range(10))
