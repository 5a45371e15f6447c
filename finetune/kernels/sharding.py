"""Weights shared out among the processes of a run (FSDP2): each keeps a part and borrows the others'."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(model: nn.Module, processes: int, device: str) -> None:
    """Share out the weights layer by layer, in place (Zhao et al. 2023). Gradients are averaged in float32.

    A model still on the CPU goes to the `device` a layer at a time, so that no GPU ever holds the whole. Under an
    adapter it is the model inside that is called whole, by training and by `generate` alike.
    """
    inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    mesh = init_device_mesh(device, (processes,))
    rule = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    layers = set(inner._no_split_modules or ())
    for module in [module for module in inner.modules() if type(module).__name__ in layers]:
        fully_shard(module, mesh=mesh, mp_policy=rule)
    fully_shard(inner, mesh=mesh, mp_policy=rule)


def is_sharded(model: nn.Module) -> bool:
    return any(isinstance(module, FSDPModule) for module in model.modules())


def whole(value: Any, keep: bool = True) -> Any:
    """Tensors inside dicts, lists and tuples put together from all processes, on the CPU; anything else as it is.

    Where weights are sharded every process must call it, with the same things; one that need not `keep` them gets
    empty tensors in their place.
    """
    if isinstance(value, DTensor):
        full = value.full_tensor()
        return full.cpu() if keep else full.new_empty(0)
    if isinstance(value, dict):
        return {key: whole(inner, keep) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(whole(inner, keep) for inner in value)
    return value


def like(tensor: Any, model: Tensor) -> Any:
    """A whole tensor shared out as another one of its shape is; anything else as it is."""
    if isinstance(model, DTensor) and isinstance(tensor, Tensor) and tensor.shape == model.shape:
        return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements, src_data_rank=None)
    return tensor
