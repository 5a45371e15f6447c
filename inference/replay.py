"""The same column through plain `model.generate`: what the engine is measured against and proved by.

Run a column again with `generate_alone` and compare the tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from inference.batch import BASE, end_ids, plain_model
from inference.loading import Loaded
from inference.strategies import ColumnSpec

_PASSED_ON = ("temperature", "top_k", "top_p", "min_p", "typical_p", "num_beams", "length_penalty", "early_stopping")


def neutral_config(model: Any, max_new_tokens: int) -> GenerationConfig:
    """A generation config in which nothing is set but the model's end tokens."""
    ends = sorted(end_ids(model))
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        typical_p=1.0,
        repetition_penalty=1.0,
        length_penalty=1.0,
        early_stopping=False,
        no_repeat_ngram_size=0,
        pad_token_id=ends[0] if ends else None,
    )
    config.eos_token_id = ends or None
    return config


def config_for(model: Any, spec: ColumnSpec, max_new_tokens: int) -> GenerationConfig:
    """What to give to `generate` for one column."""
    config = neutral_config(model, max_new_tokens)
    config.do_sample = spec.kind == "sample"
    for name in _PASSED_ON:
        if name in spec.knobs:
            setattr(config, name, spec.knobs[name])
    return config


@contextmanager
def neutral(model: Any) -> Iterator[None]:
    """Within the block, `generate` takes nothing from the checkpoint's own generation config but its end tokens."""
    inner = plain_model(model)
    own = inner.generation_config
    inner.generation_config = neutral_config(model, 1)
    inner.generation_config.max_new_tokens = None
    try:
        yield
    finally:
        inner.generation_config = own


@torch.inference_mode()
def generate_alone(
    loaded: Loaded, prompt_ids: list[int], spec: ColumnSpec, *, seed: int, max_new_tokens: int, **options: Any
) -> Any:
    """What `generate` returns for one column alone: ids [1, prompt + new], or its output object with
    `return_dict_in_generate=True` among the options."""
    ids = torch.tensor([prompt_ids], device=loaded.device)
    config = config_for(loaded.model, spec, max_new_tokens)
    if loaded.adapter is not None and spec.model == "base":
        options["adapter_names"] = [BASE]
    with loaded.lock, neutral(loaded.model):
        torch.manual_seed(seed)
        mask = torch.ones_like(ids)
        return loaded.model.generate(input_ids=ids, attention_mask=mask, generation_config=config, **options)


def new_tokens(sequence: torch.Tensor, prompt_ids: list[int]) -> list[int]:
    """The ids behind the prompt in a row of `generate`'s output."""
    return sequence[len(prompt_ids) :].tolist()
