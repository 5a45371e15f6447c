"""Base and adapter as one model: the same logits, in shards, in a bounded memory, whole or not at all."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from core import settings
from finetune.publish.formats import logit_check, lora_delta, merged
from finetune.publish.formats.build_folder import BuildProgress, built_folder
from finetune.publish.formats.trained_run import TrainedFolders
from finetune.publish.kinds import KINDS, Options, build, cost
from tests.refusals import refused
from tests.tiny.kinds import TARGETS, change_settings, finished, make_model, trained_adapter

pytestmark = pytest.mark.matrix

ROOT = Path(__file__).parents[4]
ADAPTERS = {
    "LoRA": {},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 32}},
    "a head of its own": {"modules_to_save": ["lm_head"]},
    "embeddings of its own": {"modules_to_save": ["embed_tokens"]},
    "LoRA on the head": {"target_modules": [*TARGETS, "lm_head"]},
    "LoRA on the embeddings": {"target_modules": [*TARGETS, "embed_tokens"]},
}


def merge(base, adapter, folder, most=10**9):
    folder.mkdir()
    plan = lora_delta.plan(base, adapter)
    merged.write(plan, TrainedFolders(base, adapter, base), folder, most, BuildProgress(plan.size, None, None))
    return plan


@pytest.fixture(autouse=True)
def cache(monkeypatch, workspace):
    monkeypatch.setenv("TUNESCOPE_CACHE", str(workspace / "cache"))


@pytest.fixture
def run(owner, tiny_model):
    return finished(owner, tiny_model)


@pytest.mark.parametrize("settings", ADAPTERS.values(), ids=ADAPTERS.keys())
def test_a_merged_model_gives_the_logits_of_base_and_adapter(tiny_model, tmp_path, settings):
    adapter = trained_adapter(tiny_model, tmp_path / "adapter", **settings)
    plan = merge(tiny_model, adapter, tmp_path / "merged")
    found = logit_check.merged_against_adapter(tiny_model, adapter, tmp_path / "merged")
    assert found.max_difference < 1e-3 and found.top1 == 1 and found.largest > 1
    apart = logit_check.merged_against_adapter(tiny_model, None, tmp_path / "merged")
    assert apart.max_difference > 0.05, "the adapter changes nothing"
    assert plan.untied == any("embed_tokens" in str(names) or "lm_head" in str(names) for names in settings.values())


def test_layers_that_hold_their_weights_the_other_way_round_are_merged(tmp_path):
    base = make_model(tmp_path / "base", "gpt2")
    adapter = trained_adapter(base, tmp_path / "adapter", target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)
    merge(base, adapter, tmp_path / "merged")
    assert logit_check.merged_against_adapter(base, adapter, tmp_path / "merged").max_difference < 1e-3


def test_half_precision_is_kept_and_rounded_to_once(tiny_model, tmp_path):
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = tmp_path / "base"
    AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).save_pretrained(base)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(base)
    adapter = trained_adapter(base, tmp_path / "adapter")
    merge(base, adapter, tmp_path / "merged")
    weights = load_file(tmp_path / "merged" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    held, name = load_file(adapter / "adapter_model.safetensors"), "model.layers.0.mlp.up_proj"
    a, b = (held[f"base_model.model.{name}.lora_{letter}.weight"] for letter in "AB")
    exact = load_file(base / "model.safetensors")[f"{name}.weight"].float() + 2 * b @ a
    assert torch.equal(weights[f"{name}.weight"], exact.to(torch.bfloat16))


def test_a_run_becomes_shards_with_an_index_that_load_as_one_model(owner, run, tmp_path):
    seen = []
    options = Options(shard_size="100KB")
    priced = cost("merged", run, owner, options)
    built = build("merged", run, owner, tmp_path / "out", options, seen.append)
    shards = sorted(path.name for path in built.folder.glob("model-*.safetensors"))
    index = json.loads((built.folder / "model.safetensors.index.json").read_text())
    assert len(shards) == built.facts["shards"] > 1 and set(index["weight_map"].values()) == set(shards)
    [found] = built.facts["comparisons"]
    assert found["max_difference"] < 1e-3 and found["top1"] == 1 and "PEFT" in found["against"]
    assert built.facts["files"].keys() >= {"config.json", "tokenizer.json", *shards}
    assert sum(built.facts["files"].values()) <= priced.disk + 64 * 1024
    assert [step.done for step in seen] == sorted(step.done for step in seen) and shards[0] in str(seen)
    assert seen[-1].done == seen[-1].total
    assert (built.kind, built.repo_type) == ("merged", "model")


def test_a_full_run_is_only_cut_into_shards(owner, tiny_model, tmp_path):
    run = finished(owner, tiny_model, full=True)
    built = build("merged", run, owner, tmp_path / "out")
    assert built.facts["changed_tensors"] == 0 and built.facts["comparisons"][0]["max_difference"] == 0
    assert "merged" in refused("kinds.no_adapter", build, "adapter", run, owner, tmp_path / "adapter")


def test_an_adapter_is_copied_and_names_its_base_as_others_find_it(owner, run, tiny_model, tmp_path):
    built = build("adapter", run, owner, tmp_path / "out")
    settings = json.loads((built.folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == tiny_model.name and built.facts["rank"] == 4
    weights = "adapter_model.safetensors"
    assert (built.folder / weights).read_bytes() == (run.model / weights).read_bytes()


def test_what_is_stopped_or_refused_leaves_nothing_and_what_lay_there_stays(owner, run, tmp_path):
    folder = tmp_path / "out"
    build("merged", run, owner, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    stop = threading.Event()

    def stop_in_the_middle(step):
        if step.done > 0:
            stop.set()

    refused("kinds.stopped", build, "merged", run, owner, folder, None, stop_in_the_middle, stop)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert leftovers(tmp_path) == []
    build("merged", run, owner, folder, Options(shard_size="100KB"))
    assert "model.safetensors" not in {path.name for path in folder.iterdir()}
    assert leftovers(tmp_path) == []


def leftovers(folder):
    return [path.name for path in folder.glob(".out*") if path.name != ".out.lock"]


KILLED = """
import sys
from pathlib import Path
from core.workspace import Owner
from finetune.publish.kinds import build
from finetune.runs.run import Run

def report(step):
    if step.done:
        print("in the middle", flush=True)
        sys.stdin.read()

build(sys.argv[3], Run(Path(sys.argv[1])), Owner("local"), Path(sys.argv[2]), None, report)
"""


@pytest.mark.parametrize("kind", ["merged", "gguf"])
def test_a_killed_process_holds_nobody_up_and_what_it_left_is_swept_away(owner, run, tmp_path, kind):
    folder = tmp_path / "out"
    command = [settings.python(), "-c", KILLED, str(run.folder), str(folder), kind]
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "in the middle\n"
    assert str(folder) in refused("kinds.busy", build, kind, run, owner, folder)
    child.kill()
    child.communicate()
    assert leftovers(tmp_path) == [".out.part"] and not folder.exists()
    built = build(kind, run, owner, folder, Options(check=False))
    assert built.facts["comparisons"] == [] and "not requested" in built.facts["not_compared"]
    assert leftovers(tmp_path) == [] and (folder / ("config.json" if kind == "merged" else "Modelfile")).is_file()


def test_what_was_set_aside_when_a_process_was_killed_comes_back(tmp_path):
    (tmp_path / ".out.old").mkdir()
    (tmp_path / ".out.old" / "kept").touch()

    def write():
        with built_folder(tmp_path / "out", 10**18, "merged"):
            raise AssertionError("began to write")

    refused("kinds.no_room", write)
    assert (tmp_path / "out" / "kept").exists() and leftovers(tmp_path) == []


def test_a_disk_that_is_too_small_is_named_before_anything_is_written(tmp_path):
    def write():
        with built_folder(tmp_path / "out", 10**18, "merged"):
            raise AssertionError("began to write")

    sentence = refused("kinds.no_room", write)
    assert str(tmp_path) in sentence and "1,000,000,000,000 MB" in sentence and leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"bias": "all"}, "bias=all"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"layer_replication": [[0, 2]]}, "variant"),
        ({"use_dora": True, "fan_in_fan_out": True}, "DoRA"),
    ],
)
def test_what_cannot_be_merged_exactly_is_named(tiny_model, run, tmp_path, settings, word):
    assert word in refused("kinds.cannot_merge", lora_delta.plan, tiny_model, change_settings(run.model, **settings))


def test_an_adapter_of_another_shape_or_with_foreign_tensors_is_refused(run, tiny_model, tmp_path):
    wide = make_model(tmp_path / "wide", "llama", hidden_size=64)
    assert "proj" in refused("kinds.shape", lora_delta.plan, wide, run.model)
    gpt2 = make_model(tmp_path / "gpt2", "gpt2")
    assert "proj" in refused("kinds.adapter_tensor", lora_delta.plan, gpt2, run.model)


def test_a_quantised_base_is_refused(tiny_model, run, tmp_path):
    base = make_model(tmp_path / "base", "llama")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    refused("kinds.quantised", lora_delta.plan, base, run.model)


@pytest.mark.parametrize("size", ["", "much", "1KB", "60GB", "-1GB", "1e3MB"])
def test_a_shard_size_that_is_none_is_named(owner, run, tmp_path, size):
    sentence = refused("kinds.shard_size", build, "merged", run, owner, tmp_path / "out", Options(shard_size=size))
    assert f'"{size}"' in sentence


def test_a_kind_that_is_none_or_made_of_something_else_is_refused(owner, run, tmp_path):
    assert "gguf" in refused("kinds.unknown", build, "onnx", run, owner, tmp_path / "out")
    refused("kinds.wrong_subject", build, "dataset", run, owner, tmp_path / "out")
    (run.folder / "events.jsonl").unlink()
    for kind in (key for key, kind in KINDS.items() if kind.subject == "run"):
        assert run.id in refused("kinds.not_done", build, kind, run, owner, tmp_path / "out")


MEMORY = """
import json, sys
from pathlib import Path
import torch
from finetune.publish.formats import lora_delta as lora, merged
from finetune.publish.formats.trained_run import TrainedFolders
from finetune.publish.formats.build_folder import BuildProgress

def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

base, adapter, target = map(Path, sys.argv[1:])
plan = lora.plan(base, adapter)
torch.randn(64, 64) @ torch.randn(64, 64)
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
merged.write(plan, TrainedFolders(base, adapter, base), target, 30_000_000, BuildProgress(plan.size, None, None))
largest = max(path.stat().st_size for path in target.glob("*.safetensors"))
print(json.dumps({"grown": status("VmHWM") - before, "largest": largest, "size": plan.size, "changed": plan.changed}))
"""


@pytest.mark.ci
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc (Linux)")
def test_the_memory_it_takes_is_bounded_by_a_shard(tiny_model, tmp_path):
    import torch
    from safetensors.torch import save_file

    base, adapter, target = (tmp_path / name for name in ("base", "adapter", "target"))
    for folder in (base, adapter, target):
        folder.mkdir()
    names = [f"model.layers.{layer}.mlp.{name}_proj" for layer in range(3) for name in ("gate", "up")]
    weights = {f"{name}.weight": torch.full((2048, 1536), 0.5) for name in names}
    save_file({**weights, "model.embed_tokens.weight": torch.ones(320, 32)}, base / "model.safetensors")
    (base / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    pairs = {}
    for name in names:
        pairs[f"base_model.model.{name}.lora_A.weight"] = torch.ones(8, 1536)
        pairs[f"base_model.model.{name}.lora_B.weight"] = torch.ones(2048, 8)
    save_file(pairs, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 8}))
    command = [sys.executable, "-c", MEMORY, *map(str, (base, adapter, target))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["changed"] == 6 and found["size"] > 2.9 * found["largest"] > 70_000_000
    assert found["grown"] <= 1.5 * found["largest"], found
