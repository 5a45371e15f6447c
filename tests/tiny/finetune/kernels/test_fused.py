"""The fused layers compute what the models' own do: losses and gradients, adapters, masks, windows, what learns."""

import copy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from finetune.config.run_config import validate
from finetune.kernels.attention import use_short_attention
from finetune.kernels.fused_layers import fuse
from finetune.methods import METHODS
from tests.tiny.architectures import HEADS, SIZES

KINDS = {
    "llama": LlamaConfig(**SIZES, **HEADS, num_hidden_layers=2),
    "llama with biases": LlamaConfig(**SIZES, **HEADS, num_hidden_layers=2, attention_bias=True, mlp_bias=True),
    "qwen2": Qwen2Config(**SIZES, **HEADS, num_hidden_layers=2),
    "qwen3": Qwen3Config(**SIZES, **HEADS, num_hidden_layers=2, head_dim=8),
    "mistral": MistralConfig(**SIZES, **HEADS, num_hidden_layers=2, sliding_window=8),
}
METHOD = {
    "lora": {"lora": {"rank": 4}},
    "rslora": {"lora": {"rank": 4, "targets": "attention"}},
    "dora": {"lora": {"rank": 4}},
    "lora with some layers": {"lora": {"rank": 4, "target_modules": ["q_proj", "up_proj"]}},
    "lora with dropout": {"lora": {"rank": 4, "dropout": 0.5}},
    "freeze": {"freeze": {"layers": 1}},
    "full": {},
}


def _pair(kind, method):
    """A model and its fused twin, with adapters that are no longer zero."""
    torch.manual_seed(0)
    config = KINDS[kind]
    base = AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=torch.float32)
    for weight in base.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    settings = validate({"stages": [{"data": [{"dataset": "ab" * 6}]}], "method": method.split()[0], **METHOD[method]})
    plain = METHODS[settings.method].apply(base, settings)
    for name, weight in plain.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    fused = copy.deepcopy(plain)
    assert fuse(fused) == config.num_hidden_layers
    return plain, fused


def _loss_and_gradients(model, **inputs):
    torch.manual_seed(7)
    model.zero_grad()
    loss = model(**inputs, labels=inputs["input_ids"], use_cache=False).loss
    loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    return loss.detach(), gradients


def _assert_same(plain, fused, **inputs):
    theirs, expected = _loss_and_gradients(plain, **inputs)
    ours, found = _loss_and_gradients(fused, **inputs)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert found.keys() == expected.keys() and found
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-3, msg=name)


def _ids(rows=3, length=21):
    return torch.randint(3, 300, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("method", METHOD)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_the_models_own(kind, method):
    plain, fused = _pair(kind, method)
    _assert_same(plain.train(), fused.train(), input_ids=_ids())
    _assert_same(plain.eval(), fused.eval(), input_ids=_ids())


def test_so_they_are_with_packed_rows_and_other_attention():
    plain, fused = _pair("qwen3", "lora")
    places = torch.cat([torch.arange(12), torch.arange(9)])[None].expand(3, -1)
    _assert_same(plain.train(), fused.train(), input_ids=_ids(), position_ids=places)
    for model in (plain, fused):
        model.set_attn_implementation("eager")
    _assert_same(plain, fused, input_ids=_ids())


def test_so_they_are_with_activations_computed_twice():
    plain, fused = _pair("llama", "lora")
    for model in (plain, fused):
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    _assert_same(plain.train(), fused.train(), input_ids=_ids())


def test_after_a_step_what_was_learned_counts():
    """The joined product holds the base alone: an adapter that moved is seen at once."""
    plain, fused = _pair("llama", "lora")
    use_short_attention(fused.get_base_model())
    for model in (plain, fused):
        optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.5)
        for _ in range(2):
            _loss_and_gradients(model.train(), input_ids=_ids())
            optimizer.step()
    _assert_same(plain, fused, input_ids=_ids())
    with plain.disable_adapter(), fused.disable_adapter():
        own, mine = (model.eval()(_ids()).logits for model in (plain, fused))
        torch.testing.assert_close(mine, own, atol=1e-5, rtol=1e-5)


def test_it_generates_and_is_stored_as_before(tmp_path):
    plain, fused = _pair("qwen2", "full")
    written = [model.eval().generate(_ids(2, 5), max_new_tokens=8, do_sample=False) for model in (plain, fused)]
    assert torch.equal(*written)
    fused.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(again(_ids()).logits, plain(_ids()).logits, atol=1e-5, rtol=1e-5)


def test_other_models_stay_as_they_are():
    from tests.tiny.architectures import random_model

    assert fuse(random_model("gemma3").model) == 0 and fuse(random_model("lfm2").model) == 0
