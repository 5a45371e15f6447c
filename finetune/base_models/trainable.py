"""Which parameters of a base a method would train, computed before a start from the base's config, without weights."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.words import say
from finetune.config.run_config import RunConfig
from finetune.methods import METHODS

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Structure:
    """The number of trainable parameters, and of all, adapters included."""

    trainable: int
    total: int


def hollow(folder: Path) -> Any:
    """Return the model that a folder's config describes, on the meta device: it takes no memory."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    described = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return AutoModelForCausalLM.from_config(described)


def check_method(config: RunConfig, folder: Path, device: "torch.device | None" = None) -> Structure:
    """Return how many parameters the config's method trains on a base. Raises UserError where the base lacks the layers
    that the config names, they are thinner than the adapter's rank, or 4-bit weights do not work on the `device`."""
    if METHODS[config.method].four_bit and device is not None:
        check_four_bit(device)
    model = METHODS[config.method].apply(hollow(folder), config)
    weights = list(model.parameters())
    return Structure(
        sum(weight.numel() for weight in weights if weight.requires_grad), sum(weight.numel() for weight in weights)
    )


def check_four_bit(device: "torch.device") -> None:
    """Raise UserError where a layer of NF4 weights cannot be created and run on a device; tries it."""
    import importlib.util

    import torch

    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("run.no_four_bit", reason=say("run.no_bitsandbytes"))
    try:
        from bitsandbytes.nn import Linear4bit

        layer = Linear4bit(64, 64, quant_type="nf4", compute_dtype=torch.float32).to(device)
        states = torch.ones(2, 64, device=device, requires_grad=True)
        layer(states).sum().backward()
        fine = states.grad is not None and bool(torch.isfinite(states.grad).all())
    except (RuntimeError, NotImplementedError, OSError, ImportError, AttributeError) as error:
        raise UserError("run.no_four_bit", reason=f"{' '.join(str(error).split())[:120]}.") from None
    if not fine:
        raise UserError("run.no_four_bit", reason="NaN.")
