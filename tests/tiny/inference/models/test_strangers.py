"""Models and adapters as a stranger may have made them: none leads to other files, all end in a sentence."""

import json
import shutil

import pytest
import torch

from core.files import write_json
from core.references import Folder
from inference.models.loading import load_tokenizer
from inference.models.locate import fetch, load, locate
from inference.models.types import Source
from tests.refusals import refused
from tests.tiny.adapters import logits, make_adapter
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.matrix


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESCOPE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tiny_model, tmp_path):
    """A copy of the tiny model that may be spoilt."""
    return shutil.copytree(tiny_model, tmp_path / "model")


@pytest.fixture(scope="module")
def made_adapter(tiny_model, tmp_path_factory):
    return make_adapter(tiny_model, tmp_path_factory.mktemp("adapter"))


@pytest.fixture
def adapter(made_adapter, tmp_path):
    return shutil.copytree(made_adapter, tmp_path / "adapter")


def change(path, **facts):
    write_json(path, {**json.loads(path.read_text()), **facts})


def open_both(folder, owner):
    """Locate a model and load it, as a comparison does."""
    return load(locate(str(folder), owner))


@pytest.mark.parametrize("far", [True, False])
def test_an_index_cannot_lead_to_the_weights_of_another_folder(model, tmp_path, owner, far):
    from safetensors import safe_open

    other = make_tiny_model(tmp_path / "other", seed=1)
    with safe_open(model / "model.safetensors", "pt") as weights:
        names = list(weights.keys())
    (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    target = str(other / "model.safetensors") if far else "../other/model.safetensors"
    write_json(model / "model.safetensors.index.json", {"weight_map": dict.fromkeys(names, target)})
    refused("models.damaged", open_both, model, owner)


def test_a_config_cannot_name_its_weights(model, owner):
    shutil.copy(model / "model.safetensors", model / "other.safetensors")
    change(model / "config.json", transformers_weights="other.safetensors")
    assert "other.safetensors" in refused("models.weights_elsewhere", open_both, model, owner)


def test_a_base_folder_with_an_adapter_in_it_is_no_base(model, tiny_model, adapter, owner):
    for path in adapter.glob("adapter_*"):
        shutil.copy(path, model / path.name)
    assert str(tiny_model) in refused("models.is_adapter", fetch, Folder(model), False)
    source = locate(str(model), owner)
    assert (source.base.folder, source.adapter.folder) == (tiny_model, model)
    for path in model.glob("adapter_*"):
        path.unlink()
    plain = load(Source(fetch(Folder(tiny_model), False)))
    assert torch.equal(logits(open_both(model, owner).model), logits(plain.model))


def test_an_adapter_on_its_own_folder_is_followed_one_step(adapter, owner):
    change(adapter / "adapter_config.json", base_model_name_or_path=str(adapter))
    refused("models.is_adapter", locate, str(adapter), owner)


def test_an_adapter_whose_base_is_gone_can_be_put_on_one_by_hand(adapter, tiny_model, owner):
    change(adapter / "adapter_config.json", base_model_name_or_path="/gone")
    assert "/gone" in refused("core.adapter_base", locate, str(adapter), owner)
    assert locate(str(tiny_model), owner, adapter=str(adapter)).adapter.folder == adapter


def test_an_adapter_on_the_parameters_of_experts_fits_its_base(tmp_path, owner):
    from transformers import MixtralConfig, MixtralForCausalLM

    from tests.tiny_model import make_tiny_tokenizer

    sizes = {"vocab_size": 320, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 2}
    MixtralForCausalLM(MixtralConfig(**sizes, **heads)).save_pretrained(tmp_path / "experts")
    make_tiny_tokenizer().save_pretrained(tmp_path / "experts")
    parameters = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    make_adapter(
        tmp_path / "experts", tmp_path / "adapter", target_modules=["q_proj"], target_parameters=parameters, r=2
    )
    assert open_both(tmp_path / "adapter", owner).adapter
    shallow = make_tiny_model(tmp_path / "plain")
    assert "experts" in refused("models.wrong_base", locate, str(shallow), owner, adapter=str(tmp_path / "adapter"))


@pytest.mark.parametrize(
    ("code", "facts"),
    [
        ("models.bad_config", {"hidden_size": "many"}),
        ("models.cannot_load", {"hidden_act": "nope"}),
        ("models.bad_config", {"num_attention_heads": 0}),
    ],
)
def test_a_config_with_values_that_make_no_sense_is_told(model, adapter, owner, code, facts):
    change(model / "config.json", **facts)
    refused(code, open_both, model, owner)
    refused(code, locate, str(model), owner, adapter=str(adapter))


def test_a_config_whose_architectures_are_no_list_is_taken_by_its_type(model, owner):
    change(model / "config.json", architectures=5)
    assert open_both(model, owner).model


@pytest.mark.parametrize("content", ["{", "[" * 100_000, '{"a":' * 900 + "1" + "}" * 900, "\udcff"])
def test_a_config_that_is_no_json_is_told(model, owner, content):
    (model / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(Exception, match="config") as caught:
        open_both(model, owner)
    assert caught.value.code in ("models.bad_config", "models.unknown_type")


@pytest.mark.parametrize(
    "facts",
    [
        {"target_modules": "(["},
        {"rank_pattern": {"(": 3}},
        {"arrow_config": {"top_k": 1}},
        {"r": "many"},
    ],
)
def test_an_adapter_config_that_peft_trips_over_is_told(adapter, owner, facts):
    change(adapter / "adapter_config.json", **facts)
    refused("models.bad_adapter", open_both, adapter, owner)


def test_an_adapter_that_is_cut_off_is_told(adapter, tiny_model, owner):
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    refused("models.damaged", locate, str(adapter), owner)
    write_json(adapter / "tunescope.json", {"base_fingerprint": fetch(Folder(tiny_model), False).fingerprint})
    refused("models.bad_adapter", open_both, adapter, owner)


def test_a_tensor_without_a_shape_does_not_fit_and_one_without_a_side_does_nothing(adapter, owner):
    from safetensors.torch import load_file, save_file

    path = adapter / "adapter_model.safetensors"
    weights, module = load_file(path), "base_model.model.model.layers.0.self_attn.q_proj"
    save_file({**weights, f"{module}.lora_": torch.tensor(1.0)}, path)
    open_both(adapter, owner)
    save_file({**weights, f"{module}.lora_A.weight": torch.tensor(1.0)}, path)
    assert "q_proj" in refused("models.wrong_base", open_both, adapter, owner)


def test_a_shard_that_is_missing_is_told(model, owner):
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    write_json(model / "model.safetensors.index.json", {"weight_map": dict(zip("ab", names, strict=True))})
    assert "00002-of" in refused("models.damaged", open_both, model, owner)


@pytest.mark.parametrize("content", ["{", '{"version":"1.0","model":{"type":"Nope"}}', None])
def test_a_tokenizer_that_cannot_be_read_is_told(model, content):
    (model / "tokenizer.json").unlink() if content is None else (model / "tokenizer.json").write_text(content)
    refused("models.no_tokenizer", load_tokenizer, model)
