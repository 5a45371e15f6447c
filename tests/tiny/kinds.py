"""Runs, bases and adapters for the tests of what can be published."""

import json
from pathlib import Path

from tests.hub.finished_run import make_finished_run
from tests.tiny_model import make_tiny_model, make_tiny_tokenizer

TARGETS = ["q_proj", "k_proj", "o_proj", "up_proj", "down_proj"]


def finished(owner, base, **named):
    """A finished run on the model in the folder `base`, with weights that are not zero."""
    return make_finished_run(owner, base, base_text=str(base), **named)


def trained_adapter(base, folder, **settings):
    """An adapter made by PEFT on `base`, every trainable weight moved away from where it began."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = {"r": 4, "lora_alpha": 8, "target_modules": TARGETS, "task_type": "CAUSAL_LM", **settings}
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(**config))
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in (weight for weight in model.parameters() if weight.requires_grad):
            weight.add_(torch.randn_like(weight) * 0.05)
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder


def change_settings(adapter, **settings):
    """Write into `adapter_config.json`."""
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return adapter


def make_model(folder: Path, family: str, **settings) -> Path:
    """A tiny random model of another family than Llama, or a Llama of another shape, with a tokenizer beside it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if family == "llama" and not settings:
        return make_tiny_model(folder)
    tokenizer = make_tiny_tokenizer()
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.2}
    if family == "gpt2":
        shape, more = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}, {}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(family, **{"vocab_size": len(tokenizer) + 8, **shape, **more, **ends, **settings})
    torch.manual_seed(5)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
