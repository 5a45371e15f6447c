"""The environment of a process that trains: its parent's without secrets, with the run's devices only."""

import os

from core import settings
from finetune.runs.device_queue import visible_devices

_KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**28)}
"""glibc would return large tensors to the system after each step and fault them in again; so it keeps them."""
_FEW_SHAPES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", "LRU_CACHE_CAPACITY": "128"}
"""oneDNN and its binding in torch each cache a compiled product for every shape, up to 1,024 of them. Batches differ in
length: 20 MB per step were cached, which fragments the memory for large tensors. A step needs about 60 products."""
_SECRETS = ("TOKEN", "SECRET", "PASSWORD", "API_KEY", "CREDENTIAL")


def child_environment(devices: list[str]) -> dict[str, str]:
    """Return the environment of a child process: the caller's without secrets; the process has no token and makes no
    request to the Hub."""
    kept = {name: value for name, value in os.environ.items() if not any(word in name for word in _SECRETS)}
    return (
        kept
        | _KEEP_MEMORY
        | _FEW_SHAPES
        | {
            "TUNESCOPE_HOME": str(settings.home()),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "CUDA_VISIBLE_DEVICES": ",".join(visible_devices(device) for device in devices),
            "PYTHONUNBUFFERED": "1",
        }
    )
