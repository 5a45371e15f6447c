"""Which device a run computes on and in which precision. Torch is imported when it is asked, not before."""

import platform
import resource
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from finetune.config.run_config import RunConfig

if TYPE_CHECKING:
    import torch


def choose_device(config: RunConfig) -> "torch.device":
    """The device to compute on. Raises UserError where the machine lacks the one asked for."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.mps.is_available(), "cpu": True}
    have = [name for name, found in there.items() if found]
    wanted = config.compute.device
    kind = have[0] if wanted == "auto" else wanted.partition(":")[0]
    if kind not in have:
        raise UserError("run.no_device", value=wanted, have=", ".join(have))
    return torch.device(kind)


def check_processes(config: RunConfig, device: "torch.device") -> None:
    """Raise UserError where the machine has fewer GPUs than the run has processes, counted from the one it wants."""
    import torch

    processes = config.compute.processes
    if processes == 1 or device.type == "cpu":
        return
    if device.type != "cuda":
        raise UserError("run.one_process_only", value=processes, device=device.type)
    first = int(config.compute.device.partition(":")[2] or 0)
    have = torch.cuda.device_count() - first
    if have < processes:
        raise UserError("run.too_few_devices", value=processes, have=max(have, 0))


def choose_dtype(config: RunConfig, device: "torch.device") -> "torch.dtype":
    """What the forward computes in: bfloat16 where the device is good at it, unless the config says otherwise."""
    import torch

    if config.compute.dtype != "auto":
        return getattr(torch, config.compute.dtype)
    return torch.bfloat16 if _good_at_bfloat16(device) else torch.float32


def why_dtype(config: RunConfig, device: "torch.device") -> str:
    """Why the forward computes in what it does, as the last part of the key of a sentence: "asked", "good" (the device
    multiplies bfloat16 itself) or "slow" (it does not)."""
    if config.compute.dtype != "auto":
        return "asked"
    return "good" if _good_at_bfloat16(device) else "slow"


def _good_at_bfloat16(device: "torch.device") -> bool:
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and cpu_has_bfloat16()


def four_bit(dtype: "torch.dtype") -> Any:
    """How a base is loaded in NF4 with doubly quantised constants (Dettmers et al. 2023)."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def keep_trainable(model: Any) -> None:
    """Keep bitsandbytes from laying 4-bit weights out for generation, which it does for good at a first evaluation on
    a CPU: no gradient goes through that layout."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def device_name(device: "torch.device") -> str:
    """What the device is called by its maker."""
    import torch

    return torch.cuda.get_device_name() if device.type == "cuda" else processor()


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself (AVX-512 BF16, AMX, Arm BF16)."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def memory_gb() -> float:
    """The most memory used so far: of the GPU where there is one, else of the process."""
    import torch

    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return round(_most_resident() / 1e9, 2)


def _most_resident() -> int:
    """Bytes of this program's memory at the most. The kernel's `ru_maxrss` would begin with that of the process that
    started it: a page that holds models."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def launch_line(count: int) -> str:
    """How `count` processes are started, as a person would type it."""
    return shlex.join(["accelerate", "launch", *launch_options(count), "-m", "finetune.launch.local.rank_process"])


def launch_options(count: int) -> list[str]:
    """The options of `accelerate launch` for so many processes of this machine."""
    return ["--multi_gpu", "--num_processes", str(count), "--num_machines", "1", "--main_process_port", "0"]
