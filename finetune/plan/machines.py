"""The resources of a machine: memory, disk and speed, of this machine and of those for rent.

The speeds of GPUs are their makers' (NVIDIA's datasheets of T4, L4, A10, L40S, A100 80 GB, H100 SXM, H200 and RTX PRO
6000 Blackwell; of the A10G, which only AWS has, AWS's page on G5): dense 16-bit TFLOP/s with float32 sums, and GB/s of
memory. None was ever measured by us, so results based on them are estimates.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

GB = 1e9
START_SECONDS = 240.0
"""Typical seconds until a rented machine has its image, packages and base."""
_REACHED = 0.35
"""The part of the maker's figure that training reaches (Chowdhery et al. 2022 report 0.46 for the largest models)."""
_CPU_CORE = 0.02
"""TFLOP/s of a core of a rented CPU machine."""
_A_LAYER = 1.5e-3
"""Seconds that a GPU needs to launch a layer's forward and backward, however small the batch."""


@dataclass(frozen=True)
class Chip:
    """Peak TFLOP/s in the arithmetic that a run uses on it, memory bandwidth in GB/s, bytes per number."""

    tflops: float
    bandwidth: float
    width: int = 2


CHIPS = {
    "T4": Chip(8.1, 320, width=4),
    "L4": Chip(121, 300),
    "A10G": Chip(70, 600),
    "L40S": Chip(362, 864),
    "A100": Chip(312, 2039),
    "H100": Chip(989, 3350),
    "H200": Chip(989, 4800),
    "RTX PRO 6000": Chip(503, 1792),
}
"""A T4 has no bfloat16, so a run computes in float32 on it."""
UNKNOWN = Chip(70, 600)


def chip_of(accelerator: str | None) -> Chip:
    """Return the chip by the Hub's name for it, which may be longer ("A100 SXM4"); a medium one where it is unknown."""
    name = (accelerator or "").upper()
    known = sorted(CHIPS, key=len, reverse=True)
    return next((CHIPS[key] for key in known if key in name), UNKNOWN)


def seconds_on(chip: Chip | None, cores: int, operations: float, moved: float, layers: int) -> float:
    """Return the seconds of a batch on one GPU, or on the cores of a CPU where `chip` is None, from its operations, its
    bytes read and written (`moved`) and the number of layers."""
    if chip is None:
        return operations / (max(cores, 1) * _CPU_CORE * 1e12)
    computed = operations / (chip.tflops * _REACHED * 1e12)
    return max(computed, moved / (chip.bandwidth * 1e9)) + layers * _A_LAYER


def free_disk(folder: Path) -> int:
    """Return the free bytes of the disk of a folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class Room:
    """A device's memory in bytes: total, and free now."""

    total: int
    free: int


def memory_of(device: str) -> Room:
    """Return the memory of this machine's device ("cpu", "cuda", "mps"), within the limit of a container."""
    if device.startswith("cuda"):
        import torch

        free, total = torch.cuda.mem_get_info()
        return Room(total, free)
    import psutil

    found = psutil.virtual_memory()
    most, used = _bound("memory.max"), _bound("memory.current")
    if most is None or used is None or most >= found.total:
        return Room(found.total, found.available)
    return Room(most, min(found.available, max(most - used + _cached(), 0)))


def _bound(name: str) -> int | None:
    """Return a figure of this process's control group, where it has one."""
    try:
        text = Path("/sys/fs/cgroup", name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _cached() -> int:
    """Return the bytes of file cache that the control group holds in memory and can release."""
    try:
        lines = Path("/sys/fs/cgroup/memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


@dataclass(frozen=True)
class Flavor:
    """A machine for rent. `gpu_memory_gb` is that of one GPU; `storage_gb` the disk that is deleted with the job.

    `current` says whether the Hub reported the price just now: at other prices nothing is rented.
    """

    name: str
    title: str
    accelerator: str | None
    gpus: int
    gpu_memory_gb: float | None
    memory_gb: float
    cpus: int
    usd_per_hour: float
    storage_gb: float | None = None
    current: bool = True
