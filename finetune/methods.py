"""The training methods: what is trainable. A new one is an entry here and a block in `finetune/config/blocks.py`."""

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from core.errors import UserError

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "c_attn", "query_key_value", "dense")
MLP = ("gate_proj", "up_proj", "down_proj", "gate_up_proj", "c_fc", "fc1", "fc2", "dense_h_to_4h", "dense_4h_to_h")


class LoraBlock(Protocol):
    """The settings of low-rank adapters."""

    rank: int
    alpha: int
    dropout: float
    targets: Literal["all-linear", "attention", "mlp"]
    target_modules: list[str]


class LoraPlusBlock(Protocol):
    """The settings of LoRA+."""

    ratio: float


class FreezeBlock(Protocol):
    """The part of the model that is trained."""

    layers: int
    embeddings: bool
    head: bool
    pattern: str | None


class Blocks(Protocol):
    """What methods read from a config; the config fills in the blocks of its method."""

    @property
    def lora(self) -> LoraBlock | None: ...

    @property
    def loraplus(self) -> LoraPlusBlock | None: ...

    @property
    def freeze(self) -> FreezeBlock | None: ...


@dataclass(frozen=True)
class Method:
    """One way to fine-tune.

    `learning_rate` is used where the config sets none: adapters start at zero and need ten times the rate of full
    fine-tuning (Schulman et al. 2025, "LoRA without regret"). `blocks` are the method's own parts of the config.
    `apply` takes the loaded base and returns the model to train, or raises UserError where the base lacks what the
    config names; it also works on weights on the meta device. `adapter` says whether only an adapter is saved,
    `four_bit` whether the base is loaded in NF4; `lr_multiplier` returns the factor by which a weight (given by its
    name) learns faster.
    """

    key: str
    learning_rate: float
    blocks: tuple[str, ...]
    adapter: bool
    apply: Callable[[Any, Blocks], Any]
    four_bit: bool = False
    lr_multiplier: Callable[[str, Blocks], float] = lambda name, config: 1.0


def _lora(**kind: Any) -> Callable[[Any, Blocks], Any]:
    """Return a function that adds LoRA layers; the adapter's weights take the dtype of the base, float32 masters are in
    the optimizer."""

    def apply(model: Any, config: Blocks) -> Any:
        from peft import LoraConfig, get_peft_model

        knobs = config.lora
        assert knobs is not None, "the config fills in the blocks of its method"
        settings = LoraConfig(
            r=knobs.rank,
            lora_alpha=knobs.alpha,
            lora_dropout=knobs.dropout,
            target_modules=_targets(model, config),
            task_type="CAUSAL_LM",
            **kind,
        )
        return get_peft_model(model, settings, autocast_adapter_dtype=False)

    return apply


def _targets(model: Any, config: Blocks) -> str | list[str]:
    """Return the names of the linear layers to adapt, as far as this model has them. Raises UserError where a layer is
    thinner than the adapter's rank."""
    assert config.lora is not None
    linear = dict(_linear_layers(model))
    present = {name.rsplit(".", 1)[-1] for name in linear}
    head = {name.rsplit(".", 1)[-1] for name, layer in linear.items() if layer is model.get_output_embeddings()}
    chosen = _chosen(config, present, head)
    for name, layer in linear.items():
        thinnest = min(layer.in_features, layer.out_features)
        if name.rsplit(".", 1)[-1] in chosen and config.lora.rank > thinnest:
            raise UserError("run.rank_above_layer", value=config.lora.rank, layer=name, most=thinnest)
    whole = config.lora.targets == "all-linear" and not config.lora.target_modules
    return "all-linear" if whole else sorted(chosen)


def _chosen(config: Blocks, present: set[str], head: set[str]) -> set[str]:
    assert config.lora is not None
    named, usual = config.lora.target_modules, config.lora.targets
    for name in named:
        if name not in present:
            near = difflib.get_close_matches(name, sorted(present), 1, 0.5)
            raise UserError(
                "run.no_module", value=name, near=(near or sorted(present))[0], have=", ".join(sorted(present))
            )
    if named:
        return set(named)
    if usual == "all-linear":
        return present - head
    found = present & set(ATTENTION if usual == "attention" else MLP)
    if not found:
        raise UserError("run.no_targets", value=usual)
    return found


def _linear_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the linear layers by name, including those of GPT-2 (`Conv1D`)."""
    for name, module in model.named_modules():
        if type(module).__name__ == "Conv1D":
            yield name, _LayerShape(*module.weight.shape)
        elif hasattr(module, "in_features") and hasattr(module, "out_features"):
            yield name, module


@dataclass(frozen=True)
class _LayerShape:
    in_features: int
    out_features: int


def _loraplus_multiplier(name: str, config: Blocks) -> float:
    """Return the learning rate multiplier of LoRA+: the matrix that is initialized to zero (`lora_B`) learns faster."""
    assert config.loraplus is not None
    return config.loraplus.ratio if "lora_B" in name else 1.0


def _full(model: Any, config: Blocks) -> Any:
    """Make every weight trainable."""
    return model.requires_grad_(True)


def _freeze(model: Any, config: Blocks) -> Any:
    """Make the chosen part of the model trainable and freeze the rest."""
    knobs = config.freeze
    assert knobs is not None
    model.requires_grad_(False)
    layers = _layers(model)
    if knobs.layers > len(layers):
        raise UserError("run.fewer_layers", value=knobs.layers, have=len(layers))
    for part in layers[len(layers) - knobs.layers :]:
        part.requires_grad_(True)
    for chosen, part in ((knobs.embeddings, model.get_input_embeddings()), (knobs.head, model.get_output_embeddings())):
        if chosen:
            part.requires_grad_(True)
    if knobs.pattern:
        found = [weight for name, weight in model.named_parameters() if re.search(knobs.pattern, name)]
        if not found:
            names = sorted({re.sub(r"\.\d+\.", ".N.", name) for name, _ in model.named_parameters()})
            near = difflib.get_close_matches(knobs.pattern, names, 1, 0.3) or names
            raise UserError("run.pattern_finds_nothing", value=knobs.pattern, near=near[0])
        for weight in found:
            weight.requires_grad_(True)
    return model


def _layers(model: Any) -> list[Any]:
    """Return the decoder's layers: the longest list of modules in the model."""
    from torch import nn

    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=len, default=[]))


METHODS: dict[str, Method] = {
    method.key: method
    for method in (
        Method("lora", 2e-4, blocks=("lora",), adapter=True, apply=_lora()),
        Method("rslora", 2e-4, blocks=("lora",), adapter=True, apply=_lora(use_rslora=True)),
        Method("dora", 2e-4, blocks=("lora",), adapter=True, apply=_lora(use_dora=True)),
        Method(
            "loraplus",
            5e-5,
            blocks=("lora", "loraplus"),
            adapter=True,
            apply=_lora(),
            lr_multiplier=_loraplus_multiplier,
        ),
        Method("qlora", 2e-4, blocks=("lora",), adapter=True, apply=_lora(), four_bit=True),
        Method("freeze", 2e-5, blocks=("freeze",), adapter=False, apply=_freeze),
        Method("full", 2e-5, blocks=(), adapter=False, apply=_full),
    )
}
BLOCKS = tuple(dict.fromkeys(block for method in METHODS.values() for block in method.blocks))
