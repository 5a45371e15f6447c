"""The properties of a model that determine memory and time, read from its layers without its weights."""

import inspect
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.base_models.suggested import Sizes
from finetune.base_models.trainable import hollow
from finetune.config.run_config import RunConfig
from finetune.methods import BLOCKS, METHODS

if TYPE_CHECKING:
    import torch

_REMEMBERED = 8
_known: dict[str, "Network"] = {}
_BEHIND_THE_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling")


@dataclass(frozen=True)
class Network:
    """A base with a method applied.

    `trainable` and `total` count weights, adapters included. A forward multiplies `products` weights a token in its
    layers and `head` more where a token is predicted. For backward each token keeps `kept` numbers in the arithmetic's
    dtype and `kept_exact` in float32 (the norms, where the rest is 16 bit), over all layers; attention of short rows on
    a CPU keeps `heads` times the row's length more in each of the `layers`. `gathers`: only tokens that carry loss go
    through the head. `packs`: documents can share a row.
    """

    trainable: int
    total: int
    layers: int
    width: int
    heads: int
    vocabulary: int
    products: int
    head: int
    kept: int
    kept_exact: int
    gathers: bool
    packs: bool
    adapter: bool


def read_network(config: RunConfig, folder: Path) -> Network:
    """Return the network that a config trains, read from the small files of its base. Raises UserError as
    `check_method` does.

    The last few are remembered: a start checks a method and plans with it.
    """
    blocks = {name: value for name, value in config.model_dump(mode="json").items() if name in ("method", *BLOCKS)}
    key = json.dumps([str(folder), (folder / "config.json").stat().st_mtime_ns, blocks], sort_keys=True)
    if key not in _known:
        found = _read(config, folder)
        for old in list(_known)[: 1 - _REMEMBERED]:
            _known.pop(old, None)
        _known[key] = found
    return _known[key]


def _read(config: RunConfig, folder: Path) -> Network:
    base = hollow(folder)
    text = base.config.get_text_config()
    products, kept, kept_exact = _of_layers(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = METHODS[config.method].apply(base, config)
    weights = list(model.parameters())
    trainable = sum(weight.numel() for weight in weights if weight.requires_grad)
    total = sum(weight.numel() for weight in weights)
    adapter = METHODS[config.method].adapter
    if adapter:
        kept += config.lora.rank * _adapted(model) if config.lora else 0
        products += trainable
    return Network(
        trainable=trainable,
        total=total,
        layers=max(int(getattr(text, "num_hidden_layers", 0) or 0), 1),
        width=int(text.hidden_size),
        heads=int(getattr(text, "num_attention_heads", 0) or 0),
        vocabulary=int(text.vocab_size),
        products=products,
        head=int(text.hidden_size) * int(text.vocab_size),
        kept=kept,
        kept_exact=kept_exact,
        gathers=all(getattr(text, name, None) in (None, 1, 1.0) for name in _BEHIND_THE_HEAD),
        packs="position_ids" in inspect.signature(type(base).forward).parameters,
        adapter=adapter,
    )


def _of_layers(model: Any) -> tuple[int, int, int]:
    """Return how many weights a token is multiplied with, and how many numbers of it backward needs (in the forward's
    dtype, in float32).

    A linear layer needs its input, counted once where several layers read the same, and its output, which the next
    operation needs; a gate needs its activation, too. Norms compute in float32 and keep that.
    """
    products = kept = kept_exact = 0
    inputs: set[tuple[str, int]] = set()
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        shape = _linear(module)
        if shape is not None and module is not head:
            before, after = shape
            products += before * after
            inputs.add((name.rpartition(".")[0], before))
            kept += after * (2 if "gate" in name.rpartition(".")[2] else 1)
        elif _is_norm(module):
            kept_exact += _numbers(module)
    return products, kept + sum(width for _, width in inputs), kept_exact


def _linear(module: Any) -> tuple[int, int] | None:
    """Return the input and output width of a linear layer, including those of GPT-2 (`Conv1D`); None for another
    module."""
    if type(module).__name__ == "Conv1D":
        return int(module.weight.shape[0]), int(module.weight.shape[1])
    if type(module).__name__ == "Linear":
        return int(module.in_features), int(module.out_features)
    return None


def _is_norm(module: Any) -> bool:
    return type(module).__name__.endswith("Norm") and getattr(module, "weight", None) is not None


def _numbers(module: Any) -> int:
    weight: torch.Tensor = module.weight
    return int(weight.numel())


def _adapted(model: Any) -> int:
    """Return how many layers have an adapter."""
    return sum(1 for name, _ in model.named_modules() if name.endswith("lora_A.default"))


def network_of(sizes: Sizes, rank: int | None = None) -> Network:
    """Return the network of a Llama-like model with these sizes, as it would be read from its layers; with a `rank`,
    with LoRA on all linear layers."""
    query, key = sizes.heads * sizes.head_width, sizes.key_heads * sizes.head_width
    attention = [(sizes.width, query), (sizes.width, key), (sizes.width, key), (query, sizes.width)]
    linear = [*attention, *[(sizes.width, sizes.inner)] * 2, (sizes.inner, sizes.width)]
    products = sizes.layers * sum(before * after for before, after in linear)
    head = sizes.width * sizes.vocabulary
    norms = sizes.width * (2 * sizes.layers + 1)
    total = products + norms + head * (1 if sizes.tied else 2)
    outputs = sum(after for _, after in linear) + sizes.inner
    inputs = sum({sizes.width, query}) + sum({sizes.width, sizes.inner})
    kept = sizes.layers * (outputs + inputs)
    adapter = 0 if rank is None else rank * sizes.layers * sum(before + after for before, after in linear)
    return Network(
        trainable=adapter or total,
        total=total + adapter,
        layers=sizes.layers,
        width=sizes.width,
        heads=sizes.heads,
        vocabulary=sizes.vocabulary,
        products=products + adapter,
        head=head,
        kept=kept + (rank or 0) * len(linear) * sizes.layers,
        kept_exact=norms,
        gathers=sizes.gathers,
        packs=True,
        adapter=rank is not None,
    )
