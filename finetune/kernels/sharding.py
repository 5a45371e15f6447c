"""Weights sharded over the processes of a run (FSDP2): each process keeps a part and gathers the rest when needed."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(model: nn.Module, processes: int, device: str) -> None:
    """Shard the weights layer by layer, in place (Zhao et al. 2023). Gradients are averaged in float32.

    A model on the CPU moves to the `device` a layer at a time, so that no GPU ever holds all of it. Under an adapter
    the base model is sharded, since both training and `generate` call it as a whole.
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
    """Gather tensors inside dicts, lists and tuples from all processes, on the CPU; return anything else unchanged.

    Where weights are sharded every process must call it, with the same values; a process that need not `keep` them gets
    empty tensors.
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
    """Shard a whole tensor as `model` of the same shape is sharded; return anything else unchanged."""
    if isinstance(model, DTensor) and isinstance(tensor, Tensor) and tensor.shape == model.shape:
        return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements, src_data_rank=None)
    return tensor
