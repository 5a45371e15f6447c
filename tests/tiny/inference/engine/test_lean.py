"""The lean forward computes what the model computes, whatever rows and adapters; where it cannot, it stands aside."""

import gc
import weakref

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from inference.engine import fast_linear, fast_llama, prepacked
from inference.engine.decoder import PlainDecoder
from inference.engine.fast_llama import LeanDecoder, lean_of
from inference.models.loading import Loaded
from tests.tiny.decoding import differences, run
from tests.tiny_model import make_tiny_tokenizer

SHAPE = {
    "vocab_size": 320,
    "hidden_size": 256,
    "intermediate_size": 320,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.1,
}
CONFIGS = {
    "llama": LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "llama-bias": LlamaConfig(
        **SHAPE, attention_bias=True, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    ),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE, head_dim=32),
    "mistral": MistralConfig(**SHAPE, sliding_window=None),
}
ENDS = [31, 54, 71, 125, 182]
COLUMNS = ["greedy", "beam", "sample", "nucleus", "contrastive", "dola", "lookup", "dynamic_beam", "diverse_beam"]

NO_PREPACKING = "this build of torch has no oneDNN prepacking"
pytestmark = [
    pytest.mark.matrix,
    pytest.mark.skipif(not prepacked.supported(torch.float32), reason=NO_PREPACKING),
]


@pytest.fixture(autouse=True, params=["packed", "padded", "plain", "nothing packed"])
def matrices(request, monkeypatch):
    """Every test runs with each way of multiplying one row with packed weights, and on plain weights alone."""
    monkeypatch.setattr(fast_linear, "for_one_row", lambda dtype: request.param)
    monkeypatch.setattr(fast_linear, "packs", lambda weight: request.param != "nothing packed")


def make(name, dtype="float32", adapter=None):
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).to(getattr(torch, dtype)).eval()
    for key, value in model.named_parameters():
        if key.endswith("bias"):
            torch.nn.init.normal_(value, std=0.1)
    model.generation_config.eos_token_id = ENDS
    if adapter is not None:
        model = with_adapter(model, **adapter)
    own = None if adapter is None else "adapter"
    return Loaded(model, make_tiny_tokenizer(), name, "0" * 64, 512, dtype, "cpu", own, None)


def with_adapter(model, **settings):
    from peft import LoraConfig, get_peft_model

    settings = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False, **settings}
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings)).eval()


def skip_without_bfloat16(loaded):
    """Where the processor does not multiply bfloat16 itself, such a model is left to its own forward pass."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert lean_of(loaded.model) is None
        pytest.skip("this processor does not multiply bfloat16")


def decoders(loaded, rows):
    own = lean_of(loaded.model)
    assert own is not None
    return LeanDecoder(own, rows, 64), PlainDecoder(loaded, loaded.model)


@torch.inference_mode()
def go(both, ids, tuned, **options):
    """One forward of both decoders; returns how far the logits are apart, and the lean output."""
    ours, theirs = (decoder.forward(torch.tensor(ids), tuned, **options) for decoder in both)
    assert ours.logits.shape == theirs.logits.shape
    for mine, other in zip(ours.layers, theirs.layers, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-3, rtol=1e-3)
    return float((ours.logits - theirs.logits).abs().max())


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_the_model(name):
    both = decoders(make(name), 4)
    assert go(both, [[5, 17, 300, 41, 6]], [False], every=True, hidden=True) < 1e-3
    for decoder in both:
        decoder.reorder([0, 0, 0])
    assert go(both, [[9], [200], [31]], [False] * 3, hidden=True) < 1e-3
    for decoder in both:
        decoder.reorder([2, 0, 0, 1])
    assert go(both, [[7], [8], [100], [9]], [False] * 4) < 1e-3
    for decoder in both:
        decoder.reorder([1, 3])
    assert go(both, [[77], [88]], [False] * 2) < 1e-3


def test_several_positions_can_be_written_and_taken_back():
    both = decoders(make("llama"), 1)
    assert go(both, [[5, 17, 300]], [False]) < 1e-3
    assert go(both, [[8, 9, 10, 11]], [False], every=True) < 1e-3
    for decoder in both:
        assert decoder.can_go_back
        decoder.go_back(3)
    assert go(both, [[12, 13]], [False], every=True) < 1e-3


@pytest.mark.parametrize("settings", [{}, {"target_modules": ["q_proj", "down_proj"]}, {"use_rslora": True}])
def test_rows_with_and_without_an_adapter_share_a_forward(settings):
    both = decoders(make("qwen2", adapter=settings), 4)
    assert go(both, [[5, 17, 300, 41]] * 2, [False, True], every=True) < 1e-3
    for decoder in both:
        decoder.reorder([0, 1, 1, 0])
    assert go(both, [[9], [200], [31], [4]], [False, True, True, False]) < 1e-3
    for decoder in both:
        decoder.reorder([1, 2])
    assert go(both, [[9], [31]], [True, True]) < 1e-3


@pytest.mark.parametrize("seed", [0, 7])
def test_every_kind_of_column_writes_what_it_writes_on_the_plain_model(seed):
    loaded = make("llama")
    _, wrong = differences(loaded, "the quick brown fox", COLUMNS[:4], seed=seed)
    assert wrong == []
    lean_columns = run(loaded, "hello hello hello", COLUMNS, seed=seed).columns
    plain_columns = run(loaded, "hello hello hello", COLUMNS, seed=seed, exact=True).columns
    for ours, theirs in zip(lean_columns, plain_columns, strict=True):
        assert ours.error is None
        assert ours.token_ids == theirs.token_ids, ours.name


def test_in_bfloat16_it_is_as_near_as_rounding_lets_it_be():
    loaded = make("qwen3", dtype="bfloat16")
    skip_without_bfloat16(loaded)
    both = decoders(loaded, 1)
    scale = float(both[1].forward(torch.tensor([[5]]), [False]).logits.detach().abs().max())
    both = decoders(loaded, 1)
    assert go(both, [[5, 17, 300, 41, 6]], [False], every=True) < 0.1 * scale


def test_an_adapter_in_float32_does_not_keep_a_bfloat16_model_from_a_gpu():
    loaded = make("llama", dtype="bfloat16", adapter={})
    for name, weight in loaded.model.named_parameters():
        if ".lora_" in name:
            weight.data = weight.data.float()
    inner = loaded.model.get_base_model()
    assert fast_llama._is_on(inner, "cpu")
    assert not fast_llama._is_on(inner, "cuda")
    inner.model.norm.to(torch.float32)
    assert not fast_llama._is_on(inner, "cpu")


def test_rows_with_and_without_an_adapter_in_bfloat16_share_a_forward():
    loaded = make("qwen2", dtype="bfloat16", adapter={})
    skip_without_bfloat16(loaded)
    both = decoders(loaded, 2)
    scale = float(both[1].forward(torch.tensor([[5]]), [False]).logits.detach().abs().max())
    both = decoders(make("qwen2", dtype="bfloat16", adapter={}), 2)
    assert go(both, [[5, 17, 300, 41]] * 2, [False, True], every=True) < 0.1 * scale


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"lora_bias": True}])
def test_adapters_of_other_kinds_are_left_to_peft(settings):
    assert lean_of(make("llama", adapter=settings).model) is None


def test_models_of_other_kinds_and_windows_are_left_to_transformers():
    kinds = {
        "gemma3": Gemma3TextConfig(**SHAPE, head_dim=64, sliding_window=8),
        "window": MistralConfig(**SHAPE, sliding_window=8),
        "gelu": LlamaConfig(**SHAPE, hidden_act="gelu"),
    }
    for config in kinds.values():
        assert lean_of(AutoModelForCausalLM.from_config(config).eval()) is None


def test_a_lack_of_memory_leaves_the_model_as_it_is_and_is_known(monkeypatch):
    loaded = make("llama")
    assert not prepacked.lacks_memory(loaded.model)
    monkeypatch.setattr(prepacked, "free_memory", lambda device: 1000)
    assert prepacked.lacks_memory(loaded.model)
    assert lean_of(loaded.model) is None
    assert prepacked.prepacked(loaded.model) is loaded.model


def test_where_a_gpu_has_no_memory_for_it_the_model_computes_by_itself(monkeypatch, caplog):
    def full(inner):
        raise torch.OutOfMemoryError("CUDA out of memory")

    loaded = make("llama")
    with monkeypatch.context() as once:
        once.setattr(fast_llama, "_make", full)
        assert lean_of(loaded.model) is None
        assert "no memory for the fast forward pass of LlamaForCausalLM" in caplog.text
        assert run(loaded, "hello", ["greedy"]).columns[0].token_ids
    assert lean_of(loaded.model) is not None


def test_a_lean_form_that_gives_every_row_the_adapter_is_not_used(monkeypatch):
    monkeypatch.setattr(fast_llama, "LeanDecoder", lambda *sizes: Everything(LeanDecoder(*sizes)))
    assert lean_of(make("llama").model) is not None
    assert lean_of(make("llama", adapter={}).model) is None


class Everything:
    """A decoder that puts the adapter on all rows."""

    def __init__(self, decoder):
        self.decoder = decoder

    def forward(self, ids, tuned, **options):
        return self.decoder.forward(ids, [any(tuned)] * len(tuned), **options)


def test_a_model_whose_lean_form_computes_something_else_is_left_alone(monkeypatch):
    model = make("llama").model
    monkeypatch.setattr(model.model.layers[1].mlp, "forward", lambda states: 2 * states)
    assert lean_of(model) is None


def test_a_lean_form_goes_with_its_model():
    loaded = make("llama")
    assert lean_of(loaded.model) is lean_of(loaded.model)
    gone = weakref.ref(fast_llama.lean_of(loaded.model))
    del loaded
    gc.collect()
    assert gone() is None


@torch.inference_mode()
def test_weights_become_parts_of_one_plain_matrix_and_keep_their_values():
    layers = [torch.nn.Linear(6, size) for size in (4, 2, 2)]
    before = [layer.weight.clone() for layer in layers]
    joined = fast_linear.plain_matrix([layer.weight for layer in layers], None)
    assert torch.equal(joined.weight, torch.cat(before))
    for layer, weight in zip(layers, before, strict=True):
        assert torch.equal(layer.weight, weight)
        assert layer.weight.untyped_storage().data_ptr() == joined.weight.untyped_storage().data_ptr()
    again = fast_linear.plain_matrix([layer.weight for layer in layers], None)
    assert again.weight.data_ptr() == joined.weight.data_ptr()
    apart = fast_linear.plain_matrix([layer.weight for layer in layers[::2]], None)
    assert torch.equal(apart.weight, torch.cat(before[::2]))
