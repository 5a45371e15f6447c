"""Models from folders: looked through, loaded, shared on the shelf; what cannot be used gets a sentence."""

import dataclasses
import json
import shutil

import pytest
import torch

from core import settings
from core.files import write_json
from core.references import Folder
from core.workspace import Owner
from inference.models.adapters import keeps_base
from inference.models.hub_files import check_room
from inference.models.loading import free_memory, twin
from inference.models.locate import check_adapter_base, fetch, load, load_tokenizer, locate, mixable
from tests.refusals import refused
from tests.tiny.adapters import logits, make_adapter
from tests.tiny_model import make_tiny_model


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESCOPE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def copied(tiny_model, tmp_path):
    """A copy of the tiny model that may be spoilt."""
    return shutil.copytree(tiny_model, tmp_path / "copied")


def test_a_folder_is_described_by_its_config_and_weights(tiny_model, owner):
    base = locate(str(tiny_model), owner).base
    assert (base.folder, base.context_length, base.stand_in) == (tiny_model, 512, False)
    assert base.fingerprint == fetch(Folder(tiny_model), False).fingerprint
    assert base.reference == str(tiny_model) and locate(base.reference, owner).base == base


def test_the_context_length_comes_from_the_config_not_from_the_tokenizer(copied, owner):
    facts = json.loads((copied / "tokenizer_config.json").read_text())
    (copied / "tokenizer_config.json").write_text(json.dumps({**facts, "model_max_length": 77}))
    assert locate(str(copied), owner).base.context_length == 512


def test_a_model_loads_as_transformers_does_and_in_the_dtype_asked_for(tiny_model, owner):
    from transformers import AutoModelForCausalLM

    source = locate(str(tiny_model), owner)
    loaded = load(source)
    assert (loaded.dtype, loaded.model.dtype, loaded.model.training) == ("float32", torch.float32, False)
    assert torch.equal(logits(loaded.model), logits(AutoModelForCausalLM.from_pretrained(tiny_model).eval()))
    assert loaded.tokenizer.chat_template and load(source, "bfloat16").model.dtype == torch.bfloat16


def test_an_adapter_folder_brings_its_base(adapter, tiny_model, owner):
    source = locate(str(adapter), owner)
    assert (source.base.folder, source.name) == (tiny_model, str(adapter))
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    reference = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), str(adapter)).eval()
    assert torch.equal(logits(load(source).model), logits(reference))
    assert locate(str(tiny_model), owner, adapter=str(adapter)).adapter.folder == adapter


def test_a_batch_mixes_base_and_adapter_exactly_where_mixable_says_so(adapter, tiny_model, owner):
    tuned, base = load(locate(str(adapter), owner)), load(locate(str(tiny_model), owner))
    assert mixable(tuned.source) and not mixable(base.source)
    both = logits(tuned.model, adapter_names=["__base__", "default"])
    torch.testing.assert_close(both[:1], logits(base.model), atol=1e-5, rtol=0)
    torch.testing.assert_close(both[1:], logits(tuned.model), atol=1e-5, rtol=0)
    assert (both[0] - both[1]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("settings", "mixed", "shared"),
    [
        ({"use_rslora": True}, True, True),
        ({"use_dora": True}, False, True),
        ({"init_lora_weights": "pissa"}, False, False),
    ],
)
def test_kinds_of_lora_that_do_not_mix_are_known(tiny_model, tmp_path, owner, settings, mixed, shared):
    loaded = load(locate(str(make_adapter(tiny_model, tmp_path / "adapter", **settings)), owner))
    assert mixable(loaded.source) is mixed and keeps_base(loaded.source.adapter.config) is shared


def test_an_adapter_is_refused_by_the_fingerprint_of_its_base(adapter, tiny_model, other_model, tmp_path, owner):
    marked = shutil.copytree(adapter, tmp_path / "marked")
    right, wrong = fetch(Folder(tiny_model), False), fetch(Folder(other_model), False)
    write_json(marked / "tunescope.json", {"base_fingerprint": right.fingerprint})
    check_adapter_base(marked, right)
    sentence = refused("models.wrong_base", locate, str(other_model), owner, adapter=str(marked))
    assert all(part in sentence for part in (str(marked), str(other_model), str(tiny_model), wrong.fingerprint[:12]))


def test_a_run_knows_the_fingerprint_of_its_base(adapter, tiny_model, other_model, owner):
    run = owner.runs / "r20260101-000000-abcd"
    shutil.copytree(adapter, run / "model")
    (run / "config.yaml").write_text(f"model: {other_model}\n")
    fingerprint = fetch(Folder(tiny_model), False).fingerprint
    write_json(run / "env.json", {"base": str(tiny_model), "fingerprint": fingerprint})
    source = locate(run.name, owner)
    assert (source.name, source.base.folder) == (run.name, tiny_model)
    assert load(source).adapter == run.name
    refused("models.wrong_base", locate, str(other_model), owner, adapter=run.name)


def test_an_adapter_without_fingerprint_is_refused_by_its_shapes(adapter, tmp_path, owner):
    shallow = make_tiny_model(tmp_path / "shallow", layers=1)
    sentence = refused("models.wrong_base", locate, str(shallow), owner, adapter=str(adapter))
    assert "layers.1" in sentence


def test_an_adapter_of_the_original_does_not_fit_the_stand_in(adapter, tiny_model):
    base = dataclasses.replace(fetch(Folder(tiny_model), False), stand_in=True)
    assert "stand-in" in refused("models.wrong_base", check_adapter_base, adapter, base)


def test_pickled_weights_are_refused_by_name(copied, adapter, tmp_path, owner):
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    (copied / "training_args.bin").write_bytes(b"")
    assert "pytorch_model.bin" in refused("models.pickle", locate, str(copied), owner)
    pickled = shutil.copytree(adapter, tmp_path / "pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    assert "adapter_model.bin" in refused("models.pickle", locate, str(pickled), owner)
    (pickled / "adapter_model.bin").unlink()
    refused("models.no_weights", locate, str(pickled), owner)


@pytest.mark.parametrize(
    ("code", "config", "told"),
    [
        ("models.remote_code", {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "code.Mine"}}, "mine"),
        ("models.unknown_type", {"model_type": "tomorrow"}, "tomorrow"),
        ("models.unknown_type", {}, "?"),
        ("models.not_causal", {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "T5For"),
        ("models.not_causal", {"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "BertForMaskedLM"),
        ("models.not_causal", {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}, "Sequence"),
        ("models.bad_config", [], "config.json"),
    ],
)
def test_a_config_that_is_not_of_a_causal_model_is_refused(copied, owner, code, config, told):
    (copied / "config.json").write_text(json.dumps(config))
    assert told in refused(code, locate, str(copied), owner)


def test_code_that_came_with_a_model_never_runs(copied, owner, tmp_path):
    facts = json.loads((copied / "config.json").read_text())
    (copied / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    write_json(
        copied / "config.json", {**facts, "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}
    )
    load(locate(str(copied), owner))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "asked",
    [
        {"attn_implementation": "stranger/kernel"},
        {"_attn_implementation": {"": "sdpa", "text_config": "stranger/kernel@main"}},
        {"text_config": {"experts_implementation": "stranger/kernel"}},
    ],
)
def test_attention_code_from_another_repository_is_refused(copied, owner, asked):
    facts = json.loads((copied / "config.json").read_text())
    write_json(copied / "config.json", {**facts, **asked})
    assert "stranger/kernel" in refused("models.kernel", locate, str(copied), owner)


def test_damaged_and_missing_weights_are_told(copied, owner):
    from safetensors.torch import load_file, save_file

    path = copied / "model.safetensors"
    whole = load_file(path)
    save_file({name: tensor for name, tensor in whole.items() if "layers.1.mlp" not in name}, path, {"format": "pt"})
    assert "layers.1.mlp" in refused("models.missing_weights", load, locate(str(copied), owner))
    path.write_bytes(path.read_bytes()[:-100])
    assert "model.safetensors" in refused("models.damaged", locate, str(copied), owner)


def test_what_torch_keeps_unused_of_a_gpu_is_free(monkeypatch):
    """No GPU is needed for it: what the driver and torch's allocator say is given."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 500)
    assert free_memory("cuda:0") == 1200
    assert free_memory("cpu") > 10_000


def test_wrong_dtype_and_device_are_told(tiny_model, owner):
    source = locate(str(tiny_model), owner)
    assert "int4" in refused("models.dtype", load, source, "int4")
    assert "cpu" in refused("models.device", load, source, "float32", "cuda:99")


def test_what_cannot_fit_into_memory_is_refused_before_loading(tiny_model, owner, monkeypatch):
    monkeypatch.setattr("inference.models.loading.BYTES", {"float32": 10**9})
    assert "float32" in refused("models.no_memory", load, locate(str(tiny_model), owner), "float32")


def test_an_adapter_that_peft_cannot_load_is_told(adapter, tmp_path, owner):
    spoilt = shutil.copytree(adapter, tmp_path / "spoilt")
    facts = json.loads((spoilt / "adapter_config.json").read_text())
    write_json(spoilt / "adapter_config.json", {**facts, "target_modules": ["nothing_like_this"]})
    refused("models.bad_adapter", load, locate(str(spoilt), owner))
    write_json(spoilt / "adapter_config.json", {**facts, "peft_type": "XLORA", "adapters": {"0": "/etc"}})
    assert "XLORA" in refused("models.adapter_kind", locate, str(spoilt), owner)
    write_json(spoilt / "adapter_config.json", {**facts, "megatron_config": {}, "megatron_core": "this"})
    load(locate(str(spoilt), owner))
    write_json(spoilt / "adapter_config.json", {**facts, "megatron_config": {"a": 1}, "megatron_core": "this"})
    assert "MEGATRON" in refused("models.adapter_kind", locate, str(spoilt), owner)


def test_a_tokenizer_without_chat_template_is_fine_and_none_at_all_is_told(copied):
    (copied / "chat_template.jinja").unlink()
    assert load_tokenizer(copied).chat_template is None
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copied / name).unlink()
    refused("models.no_tokenizer", load_tokenizer, copied)


def test_two_adapters_on_top_of_each_other_and_a_base_as_adapter_are_refused(adapter, tiny_model, owner):
    refused("models.two_adapters", locate, str(adapter), owner, adapter=str(adapter))
    refused("models.not_an_adapter", locate, str(tiny_model), owner, adapter=str(tiny_model))


def test_a_model_that_is_not_here_says_what_was_tried(owner):
    sentence = refused("models.unreachable", locate, "somebody/something", owner)
    assert "HF_HUB_OFFLINE" in sentence and "smollm2-135m-instruct-q4_1" in sentence
    refused("models.unreachable", locate, "HuggingFaceTB/SmolLM2-135M-Instruct@abc", owner)


def test_the_stand_in_takes_the_place_of_the_default_model_and_says_so(tiny_model, owner):
    shutil.copytree(tiny_model, settings.cache() / settings.STANDIN)
    source = locate(settings.DEFAULT_MODEL, owner)
    base = source.base
    assert (base.stand_in, base.requested, base.name) == (True, settings.DEFAULT_MODEL, settings.STANDIN)
    assert locate(base.reference, owner).base.fingerprint == base.fingerprint
    assert source.name == settings.STANDIN


def test_who_is_not_local_opens_no_folder(tiny_model):
    refused("core.reference", locate, str(tiny_model), Owner("somebody"))


def test_a_twin_shares_weights_but_not_modules(tiny_model, owner):
    model = load(locate(str(tiny_model), owner)).model
    second = twin(model)
    assert {id(p) for p in model.parameters()} == {id(p) for p in second.parameters()}
    assert torch.equal(logits(model), logits(second))
    assert not {id(m) for m in model.modules()} & {id(m) for m in second.modules()}


def test_a_full_disk_is_told_before_a_download(tmp_path):
    sentence = refused("models.no_room", check_room, tmp_path / "disk", 10**18, "somebody/huge")
    assert "somebody/huge" in sentence and str(tmp_path / "disk") in sentence
