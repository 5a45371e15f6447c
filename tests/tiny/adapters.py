"""LoRA adapters for the tiny model, and what a model answers to a few tokens."""

import torch

IDS = torch.tensor([[20, 31, 42, 53, 64]])


def make_adapter(base, folder, **settings):
    """A LoRA adapter whose effect shows, saved as PEFT does."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    settings = {
        "r": 4,
        "target_modules": "all-linear",
        "init_lora_weights": False,
        "task_type": "CAUSAL_LM",
        **settings,
    }
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**settings))
    model.save_pretrained(folder)
    return folder


def logits(model, **named):
    with torch.no_grad():
        return model(IDS.expand(len(named.get("adapter_names", "x")), -1), **named).logits
