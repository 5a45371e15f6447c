"""What this machine computes on, for people to read."""

import os
from dataclasses import dataclass

from inference.compare import zerogpu
from inference.models.loading import choose_device, choose_dtype, free_memory


@dataclass(frozen=True)
class Machine:
    """The device that models run on here. `name` is the GPU's, empty for a CPU; `free` are bytes, 0 if the device is
    there only at times (ZeroGPU)."""

    device: str
    name: str
    cores: int
    free: int
    dtype: str


def describe_machine() -> Machine:
    """Return what this machine computes on. Loads torch."""
    import torch

    if zerogpu.ready():
        return Machine("cuda:0", "ZeroGPU", _cores(), 0, "bfloat16")
    device = choose_device(None)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else ""
    return Machine(device, name, _cores(), free_memory(device), choose_dtype(None, device))


def _cores() -> int:
    """Return the number of cores this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
