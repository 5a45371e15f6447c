"""Small random models of several kinds: full attention, sliding windows, state spaces, and mixtures of them."""

import torch

ENDS = [31, 54, 71, 125, 182]
SIZES = {"vocab_size": 320, "hidden_size": 32, "intermediate_size": 64}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


def _llama():
    from transformers import LlamaConfig

    return LlamaConfig(**SIZES, **HEADS, num_hidden_layers=2, initializer_range=0.3)


def _gpt2():
    from transformers import GPT2Config

    return GPT2Config(vocab_size=320, n_embd=32, n_layer=2, n_head=4, n_positions=512, initializer_range=0.3)


def _mistral():
    from transformers import MistralConfig

    return MistralConfig(**SIZES, **HEADS, num_hidden_layers=2, sliding_window=8, initializer_range=0.3)


def _gemma3():
    from transformers import Gemma3TextConfig

    kinds = ["sliding_attention", "full_attention"] * 2
    more = {"num_hidden_layers": 4, "head_dim": 8, "sliding_window": 8, "layer_types": kinds}
    return Gemma3TextConfig(**SIZES, **HEADS, **more, initializer_range=0.3)


def _mamba():
    from transformers import MambaConfig

    return MambaConfig(vocab_size=320, hidden_size=32, state_size=8, num_hidden_layers=2, initializer_range=0.3)


def _lfm2():
    from transformers import Lfm2Config

    kinds = ["conv", "full_attention", "conv", "full_attention"]
    return Lfm2Config(**SIZES, **HEADS, num_hidden_layers=4, layer_types=kinds, initializer_range=0.3)


def _qwen3_next():
    from transformers import Qwen3NextConfig

    more = {"head_dim": 8, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2}
    more |= {"linear_num_value_heads": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    more |= {"shared_expert_intermediate_size": 32, "layer_types": ["linear_attention", "full_attention"]}
    return Qwen3NextConfig(**SIZES, **HEADS, **more, num_hidden_layers=2, initializer_range=0.3)


CONFIGS = {
    "llama": _llama,
    "gpt2": _gpt2,
    "mistral": _mistral,
    "gemma3": _gemma3,
    "mamba": _mamba,
    "lfm2": _lfm2,
    "qwen3_next": _qwen3_next,
}


def random_model(name, *, dtype="float32", ends=ENDS):
    """A random model of a kind as the engine takes it, with the byte-level tokenizer of the tests."""
    from transformers import AutoModelForCausalLM

    from inference.models.loading import Loaded
    from tests.tiny_model import make_tiny_tokenizer

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name](), dtype=getattr(torch, dtype)).eval()
    model.generation_config.eos_token_id = ends
    return Loaded(model, make_tiny_tokenizer(), name, "0" * 64, 512, dtype, "cpu", None, None)
