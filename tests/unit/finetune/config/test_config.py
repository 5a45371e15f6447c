"""The config: what it accepts, what it refuses and in which words, that it survives being written down."""

from pathlib import Path

import pytest

from core.errors import UserError
from core.words import speaking
from finetune.cli.main import main
from finetune.config.run_config import knobs, load_yaml, to_yaml, validate
from finetune.config.yaml_reader import nest
from finetune.data.importing.importer import import_file
from finetune.data.store import example_file
from finetune.plan.prepare import import_data

FULL = """
model: HuggingFaceTB/SmolLM2-135M-Instruct
stages: [{objective: sft, data: [{path: alpaca_en_demo.json}]}]
limits: {max_rows: 96, max_length: 512, validation: 0.1}
method: lora
lora: {rank: 16, alpha: 32}
optim: {epochs: 1, learning_rate: 2.0e-4, batch_size: 8}
seed: 0
"""
DATA = "stages: [{data: [{dataset: abababababab}]}]\n"


def test_a_config_is_read_and_written_back_equal():
    config = load_yaml(FULL, Path("/data"))
    assert config.stages[0].data[0].path == "/data/alpaca_en_demo.json"
    assert (config.limits.max_rows, config.lora.rank, config.optim.learning_rate) == (96, 16, 2e-4)
    assert load_yaml(to_yaml(config)) == config


def test_a_stage_that_wants_its_learning_rate_chosen_keeps_that_when_written_down():
    text = "stages: [{data: [{dataset: abababababab}]}, {data: [{dataset: cd}], optim: {learning_rate: null}}]\n"
    config = load_yaml(text + "optim: {learning_rate: 1.0e-3}")
    assert [config.optim_of(stage).learning_rate for stage in config.stages] == [1e-3, 2e-4]
    assert load_yaml(to_yaml(config)) == config


def test_a_setting_can_be_changed_before_it_is_checked():
    config = load_yaml(FULL, Path("/data"), ("optim.epochs=2", "lora.targets=attention", "watch.samples=[hello]"))
    assert (config.optim.epochs, config.lora.targets, config.watch.samples) == (2, "attention", ["hello"])
    with pytest.raises(UserError, match=r"optim\.epochs=2"):
        load_yaml(FULL, Path("/data"), ("optim.epochs",))
    for value in ("seed=[", "seed=" + "[" * 30000, "=1"):
        with pytest.raises(UserError, match="--set"):
            load_yaml(FULL, Path("/data"), (value,))


def test_the_learning_rate_follows_the_method_unless_it_is_named():
    lora, full = load_yaml(DATA), load_yaml(DATA + "method: full")
    assert lora.optim_of(lora.stages[0]).learning_rate == 2e-4
    assert full.optim_of(full.stages[0]).learning_rate == 2e-5
    named = load_yaml("stages: [{data: [{dataset: abababababab}], optim: {learning_rate: 1.0e-3}}]\noptim: {epochs: 7}")
    assert (named.optim_of(named.stages[0]).learning_rate, named.optim_of(named.stages[0]).epochs) == (1e-3, 7)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("model: a/b", ["stages", "missing"]),
        ("stages: []", ["stages", "empty"]),
        ("stages: [{data: []}]", ["stages.0.data", "empty"]),
        ("stages: [{data: [{}]}]", ["stages.0.data.0", "path", "dataset", "hub"]),
        ("stages: [{data: [{path: a, hub: b/c}]}]", ["stages.0.data.0", "exactly one"]),
        ("stages: [{data: [{path: a, split: train}]}]", ["split", "hub only"]),
        (DATA + "optm: {epochs: 2}", ["optm", 'mean "optim"']),
        (DATA + "lora: {rnk: 2}", ["lora.rnk", 'mean "rank"']),
        (DATA + "lora: {zzz: 2}", ["lora.zzz", "rank, alpha, dropout, targets"]),
        (DATA + "lora: {rank: 0}", ["lora.rank", "is 0", "from 1 to 1024"]),
        (DATA + "lora: {rank: 1.5}", ["lora.rank", "1.5", "whole number"]),
        (DATA + "optim: {learning_rate: fast}", ["optim.learning_rate", "fast", "number from 0 to 1"]),
        (DATA + "limits: {validation: .nan}", ["limits.validation", "nan", "from 0 to 0.5"]),
        (DATA + "optim: 3", ["optim", "not a block of settings"]),
        (DATA + "method: lowrank", ["method", "lowrank", "lora, rslora, dora, loraplus, qlora, freeze, full"]),
        (DATA + "method: full\nlora: {rank: 4}", ['"lora" is set', "full"]),
        (DATA + "compute: {device: gpu}", ["compute.device", "gpu", "cuda:N"]),
        (DATA + "compute: {recompute: maybe}", ["compute.recompute", "maybe", "true or false"]),
        (
            "stages: [{objective: dpo, sft: {learn: answers}, data: [{path: a}]}]",
            ["stages.0.sft", '"dpo"', "objective: sft"],
        ),
        (DATA + "method: freeze\nfreeze: {layers: 0}", ["freeze.layers", "selects no weights to train"]),
        (DATA + "method: freeze\nfreeze: {pattern: '(mlp'}", ["freeze.pattern", "(mlp", "regular expression"]),
        (DATA + "method: rslora\nloraplus: {ratio: 4}", ['"loraplus"', '"rslora"', "loraplus"]),
        (DATA + "optim: {learning_rate: 0}", ["optim.learning_rate", "above 0", "up to 1"]),
        (DATA + "optim: {learning_rate: -1.0e-4}", ["optim.learning_rate", "-0.0001", "above 0"]),
        (DATA + "optim: {learning_rate: 10}", ["optim.learning_rate", "10", "1"]),
        ("a: [", ["YAML", "line 1"]),
        ("a: 1\nb: " + "[" * 60000, ["YAML", "line 2"]),
        ("- " * 30000, ["YAML"]),
        ("seed: 2024-99-99", ["YAML"]),
        ("- 1", ["does not contain settings"]),
        (DATA + "seed: 1\nmethod: lora\nseed: 2", ['"seed"', "twice", "line 4"]),
        (DATA + "optim: {epochs: 1,\n  epochs: 2}", ['"epochs"', "twice", "line 3"]),
        (DATA + "optim: {epochs: 1}\noptim: {batch_size: 2}", ['"optim"', "twice", "line 3"]),
        ("a: &x [1]\nb: *x", ["anchors and aliases"]),
        ("a: " + "x" * 70000, ["68 KB", "64 KB"]),
        (b"\xff\xfe", ["YAML"]),
        (DATA + '\nseed: !!int ""', ["YAML", "line"]),
        (DATA + "\ncompute: {recompute: !!bool foo}", ["YAML", "line"]),
        (DATA + "\nseed: 0x" + "f" * 5000, ["seed", "0xfff"]),
        ("stages: [{data: [{path: ~nobody-of-this-name/rows.json}]}]", ["~nobody-of-this-name/rows.json"]),
        (DATA + r'watch: {samples: ["fine", "tea \uD800"]}', ["watch.samples.1", "UTF-8", "whole character"]),
        (r'stages: [{data: [{path: "\uDC80.json"}]}]', ["stages.0.data.0.path", "UTF-8"]),
        (DATA + r'"\uD800": 1', ["UTF-8"]),
        ("stages: !!python/object/apply:os.system ['true']", ["YAML"]),
    ],
)
def test_what_cannot_be_is_refused_by_field_value_and_remedy(text, parts):
    with pytest.raises(UserError) as error:
        load_yaml(text, Path("/data"))
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("path", ["a" * 300 + ".json", "nowhere\0.json"])
def test_a_path_that_no_file_can_have_is_a_missing_file(path, owner):
    with pytest.raises(UserError, match="was not found"):
        import_data(validate({"stages": [{"data": [{"path": "/data/" + path}]}]}), owner)


def test_a_config_that_its_run_could_not_read_back_is_refused_before_there_is_a_run(owner):
    dataset = import_file(example_file(), owner)
    raw = {"stages": [{"data": [{"dataset": dataset.id}]}], "watch": {"samples": ["word " * 15_000]}}
    with pytest.raises(UserError, match="64 KB"):
        import_data(validate(raw), owner)


def test_all_problems_are_named_at_once_and_in_the_readers_language():
    with pytest.raises(UserError) as error:
        load_yaml(DATA + "optim: {epocs: 2, batch_size: 0}\nseed: -1")
    assert all(part in str(error.value) for part in ("optim.epocs", "optim.batch_size", "seed"))
    with speaking("zh"):
        assert "不是设置项" in str(error.value)


@pytest.mark.parametrize("token", ["hf_" + "a" * 34, "sk-" + "b" * 40])
def test_an_access_token_is_refused_without_being_repeated(token):
    for text in (f"token: {token}", f"model: 'x {token}'", f"{token}: 1", f"watch: {{samples: ['{token}']}}"):
        with pytest.raises(UserError) as error:
            load_yaml(DATA + text)
        assert error.value.code == "config.secret"
        assert token not in str(error.value) + repr(error.value)


def test_a_relative_path_needs_a_folder_and_a_space_takes_no_path(monkeypatch):
    with pytest.raises(UserError, match="relative"):
        load_yaml(FULL)
    monkeypatch.setenv("SPACE_ID", "someone/space")
    with pytest.raises(UserError, match="Upload"):
        load_yaml(FULL, Path("/data"))


def test_the_form_can_build_a_config_from_paths():
    values = {knob.path: knob.default for knob in knobs() if knob.shown_when in (None, ("method", "lora"))}
    config = validate(nest(values) | {"stages": [{"data": [{"dataset": "ab" * 6}]}]})
    assert config == load_yaml(DATA)


def test_a_data_file_in_the_place_of_a_config_is_told_so(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n')
    assert main(["train", str(path)]) == 2
    told = capsys.readouterr().err
    assert str(path) in told and "stages: [{data: [{path: rows.jsonl}]}]" in told
