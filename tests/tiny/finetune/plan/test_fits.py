"""The sums of "what fits here" are those that the plan makes of a model's own layers."""

from dataclasses import replace

import pytest

from finetune.base_models.network import network_of, read_network
from finetune.base_models.suggested import SUGGESTED, Sizes
from finetune.config.run_config import validate
from finetune.plan.fit import fits, inspect_machine
from inference.models.loading import choose_device

TINY = Sizes(layers=2, width=32, inner=64, heads=4, key_heads=2, head_width=8, vocabulary=320)
RAW = {"stages": [{"data": [{"dataset": "a" * 12}]}]}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_network_from_sizes_is_that_of_the_layers(method, tiny_model):
    config = validate({**RAW, "method": method})
    read = read_network(config, tiny_model)
    made = network_of(replace(TINY, vocabulary=read.vocabulary), config.lora.rank if config.lora else None)
    assert made == read


def test_the_suggestions_weights_are_those_of_models_built_from_their_sizes():
    """A model of each size is built without memory for its weights; only what its kind adds to Llama's is not seen."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    for model in SUGGESTED[:4]:
        sizes = model.sizes
        config = AutoConfig.for_model(
            "smollm3" if "SmolLM3" in model.name else "llama",
            num_hidden_layers=sizes.layers,
            hidden_size=sizes.width,
            intermediate_size=sizes.inner,
            num_attention_heads=sizes.heads,
            num_key_value_heads=sizes.key_heads,
            head_dim=sizes.head_width,
            vocab_size=sizes.vocabulary,
            tie_word_embeddings=sizes.tied,
        )
        with torch.device("meta"):
            built = AutoModelForCausalLM.from_config(config)
        assert sum(weight.numel() for weight in built.parameters()) == model.parameters, model.name


def test_this_machine_is_looked_at():
    here = inspect_machine()
    assert here.free > 0 and choose_device(None).startswith(here.device)
    assert here.trains and {here.compare_width, here.train_width} <= {2, 4}
    assert [one.way for one in fits(SUGGESTED[0], here)] == ["compare", "lora", "qlora", "full"]
