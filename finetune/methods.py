"""What becomes trainable: a table of methods. A new one is an entry here and a block in `finetune/config.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetune.config import RunConfig

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "c_attn", "query_key_value", "dense")
MLP = ("gate_proj", "up_proj", "down_proj", "gate_up_proj", "c_fc", "fc1", "fc2", "dense_h_to_4h", "dense_4h_to_h")


@dataclass(frozen=True)
class Method:
    """One way to fine-tune.

    `learning_rate` is used where the config names none: adapters start at zero and stand ten times the rate of full
    fine-tuning (Schulman et al. 2025, "LoRA without regret"). `block` is its own part of the config, if it has one.
    `apply` takes the loaded base and gives back the model to train; `adapter` says whether only an adapter is saved.
    """

    key: str
    learning_rate: float
    block: str | None
    adapter: bool
    apply: Callable[[Any, "RunConfig"], Any]


def _lora(model: Any, config: "RunConfig") -> Any:
    """Put LoRA layers in; the adapter's weights take the dtype of the base, masters stand in the optimizer."""
    from peft import LoraConfig, get_peft_model

    knobs = config.lora
    assert knobs is not None, "the config fills in the block of its method"
    settings = LoraConfig(
        r=knobs.rank,
        lora_alpha=knobs.alpha,
        lora_dropout=knobs.dropout,
        target_modules=_targets(model, knobs.targets),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, settings, autocast_adapter_dtype=False)


def _targets(model: Any, targets: str) -> str | list[str]:
    """The names of the linear layers to adapt, as far as this model has them."""
    from core.errors import UserError

    if targets == "all-linear":
        return targets
    wanted = ATTENTION if targets == "attention" else MLP
    present = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    chosen = [name for name in wanted if name in present]
    if not chosen:
        raise UserError("run.no_targets", value=targets)
    return chosen


def _full(model: Any, config: "RunConfig") -> Any:
    """Every weight is trained."""
    return model.requires_grad_(True)


METHODS: dict[str, Method] = {
    method.key: method
    for method in (
        Method("lora", learning_rate=2e-4, block="lora", adapter=True, apply=_lora),
        Method("full", learning_rate=2e-5, block=None, adapter=False, apply=_full),
    )
}
