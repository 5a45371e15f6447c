"""What a process that trains is given of its parent's environment: nothing secret, and one device."""

import os

from core import settings
from finetune.runs.device_queue import visible_devices

_KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**28)}
"""glibc gives large tensors back to the system after each step and faults them in again; so it keeps them."""
_FEW_SHAPES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", "LRU_CACHE_CAPACITY": "128"}
"""oneDNN and its binding in torch each keep a compiled product for every shape, 1,024 of them. Every batch has a length
of its own: 20 MB a step were kept, spread over the memory that large tensors want in one piece. A step has some 60."""
_SECRETS = ("TOKEN", "SECRET", "PASSWORD", "API_KEY", "CREDENTIAL")


def child_environment(devices: list[str]) -> dict[str, str]:
    """The caller's environment without anything secret; the process neither has a token nor asks the Hub."""
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
