"""Whether a model fits this machine: to compare, to train adapters, to train adapters in 4-bit, to train in full.

A first answer from the number of weights alone, before anything is downloaded, for the default settings of the form.
The plan of a run, which knows its rows and measures, is more exact; the same estimates are used here.
"""

from dataclasses import dataclass, replace
from typing import Any

from core import settings
from core.errors import UserError
from finetune.base_models.network import network_of
from finetune.base_models.suggested import Model, Sizes, nearest
from finetune.config.blocks import Compute, Limits, Lora, Optim
from finetune.plan.machines import memory_of
from finetune.plan.memory import CONTEXT, ComputeSettings, memory

WAYS = ("compare", "lora", "qlora", "full")
ROOM_TO_SPARE = 0.9
"""The part of the free memory that a model may take, which leaves room for what the estimates do not include."""
USUAL_ROWS, USUAL_LENGTH = Optim().batch_size, Limits().max_length
"""The default batch of the form: rows, and tokens per row."""
ZERO_GPU = 48e9
"""Bytes of the GPU that a ZeroGPU Space lends (its documentation, August 2026)."""


@dataclass(frozen=True)
class Here:
    """This machine: its device, free bytes on it, bytes per number when comparing and when training, and whether it can
    train at all, and in 4-bit."""

    device: str
    free: float
    compare_width: int
    train_width: int
    trains: bool = True
    four_bit: bool = True

    @property
    def cpu(self) -> bool:
        return self.device == "cpu"


@dataclass(frozen=True)
class Fit:
    """How one use of a model fits this machine. `word` is "fits", "tight" (with smaller batches, or slower), "no",
    "missing" (this machine cannot do it at all) or "unknown"; `needed` is in bytes."""

    way: str
    word: str
    needed: float | None = None


def inspect_machine() -> Here:
    """Return the properties of this machine. Imports torch."""
    import torch

    from finetune.config.device import choose_device, choose_dtype
    from finetune.config.run_config import RunConfig
    from inference.compare.machine import describe_machine
    from inference.models.loading import BYTES

    machine = describe_machine()
    if settings.zero_gpu():
        return Here("cuda", ZERO_GPU, BYTES[machine.dtype], 2, trains=False, four_bit=False)
    usual = RunConfig.model_construct(compute=Compute())
    device = choose_device(usual)
    width = 2 if choose_dtype(usual, device) == torch.bfloat16 else 4
    four_bit = _four_bit(device)
    return Here(device.type, memory_of(device.type).free, BYTES[machine.dtype], width, four_bit=four_bit)


def _four_bit(device: Any) -> bool:
    """Return whether 4-bit weights work on a device."""
    from finetune.base_models.trainable import check_four_bit

    try:
        check_four_bit(device)
        return True
    except UserError:
        return False


def fits(model: Model, here: Here) -> list[Fit]:
    """Return how each use in `WAYS` of a model fits this machine."""
    if not model.parameters:
        return [Fit(way, "unknown") for way in WAYS]
    sizes = model.sizes or nearest(model.parameters)
    return [_compared(model.parameters, sizes, here), *(_trained(way, model, sizes, here) for way in WAYS[1:])]


def _compared(parameters: int, sizes: Sizes, here: Here) -> Fit:
    """Return whether a model fits for comparing. On a CPU a second layout of the linear layers is stored if it takes
    less than half of the remaining free memory (`inference/engine/prepacked.py`); without it they are slower."""
    weights = parameters * here.compare_width
    if not here.cpu:
        return _judged("compare", weights + CONTEXT, weights + CONTEXT, here)
    packed = (parameters - (0 if sizes.tied else sizes.width * sizes.vocabulary)) * here.compare_width
    if weights + 2 * packed <= here.free:
        return Fit("compare", "fits", weights + packed)
    return Fit("compare", "tight" if weights <= here.free else "no", weights)


def _trained(way: str, model: Model, sizes: Sizes, here: Here) -> Fit:
    if not here.trains or (way == "qlora" and not here.four_bit):
        return Fit(way, "missing")
    network = network_of(sizes, None if way == "full" else Lora().rank)
    added = network.total - network_of(sizes).total
    network = replace(network, total=(model.parameters or 0) + added)
    if way == "full":
        network = replace(network, trainable=network.total)
    usual = ComputeSettings(here.train_width, here.cpu, Optim().gradient_accumulation, four_bit=way == "qlora")
    smaller = replace(usual, recompute=True)
    large = memory(network, (USUAL_ROWS, USUAL_LENGTH), 1.0, usual).peak
    small = memory(network, (1, USUAL_LENGTH), 1.0, smaller).peak
    return _judged(way, large, small, here)


def _judged(way: str, usual: float, least: float, here: Here) -> Fit:
    if usual <= ROOM_TO_SPARE * here.free:
        return Fit(way, "fits", usual)
    return Fit(way, "tight" if least <= here.free else "no", least)


def facts(model: Model, here: Here) -> dict[str, Any]:
    """Return a model as plain values, with what fits this machine; memory in GB."""
    judged = {
        fit.way: {"fits": fit.word, "gb": None if fit.needed is None else round(fit.needed / 1e9, 2)}
        for fit in fits(model, here)
    }
    plain = {name: value for name, value in vars(model).items() if name != "sizes"}
    return plain | {"languages": list(model.languages), "here": judged}
