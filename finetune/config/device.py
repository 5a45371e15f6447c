"""Which device a run computes on and in which precision. Torch is imported by the functions that need it."""

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
    """Return the device to compute on. Raises UserError where the machine lacks the device that the config names."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.mps.is_available(), "cpu": True}
    have = [name for name, found in there.items() if found]
    wanted = config.compute.device
    kind = have[0] if wanted == "auto" else wanted.partition(":")[0]
    if kind not in have:
        raise UserError("run.no_device", value=wanted, have=", ".join(have))
    return torch.device(kind)


def check_processes(config: RunConfig, device: "torch.device") -> None:
    """Raise UserError where the machine has fewer GPUs than the run has processes, counted from the run's first GPU."""
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
    """Return the dtype of the forward pass: the config's, else bfloat16 where the device computes it natively, else
    float32."""
    import torch

    if config.compute.dtype != "auto":
        return getattr(torch, config.compute.dtype)
    return torch.bfloat16 if _good_at_bfloat16(device) else torch.float32


def why_dtype(config: RunConfig, device: "torch.device") -> str:
    """Return the reason for the dtype of the forward pass, as the last part of the key of a sentence: "asked" (the
    config sets it), "good" (the device computes bfloat16 natively) or "slow" (it does not)."""
    if config.compute.dtype != "auto":
        return "asked"
    return "good" if _good_at_bfloat16(device) else "slow"


def _good_at_bfloat16(device: "torch.device") -> bool:
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and cpu_has_bfloat16()


def four_bit(dtype: "torch.dtype") -> Any:
    """Return the settings that load a base in NF4 with double quantization (Dettmers et al. 2023)."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def keep_trainable(model: Any) -> None:
    """Prevent bitsandbytes from converting 4-bit weights to its layout for generation, which it does permanently at the
    first evaluation on a CPU: no gradient passes through that layout."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def device_name(device: "torch.device") -> str:
    """Return the device's product name."""
    import torch

    return torch.cuda.get_device_name() if device.type == "cuda" else processor()


def cpu_has_bfloat16() -> bool:
    """Return whether the processor computes bfloat16 natively (AVX-512 BF16, AMX, Arm BF16)."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def memory_gb() -> float:
    """Return the peak memory so far in GB: of the GPU where there is one, else of the process."""
    import torch

    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return round(_most_resident() / 1e9, 2)


def _most_resident() -> int:
    """Return the peak resident memory of this program in bytes. The kernel's `ru_maxrss` would start from the value of
    the parent process: a page that holds models."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def launch_line(count: int) -> str:
    """Return the command that starts `count` processes, as a person would type it."""
    return shlex.join(["accelerate", "launch", *launch_options(count), "-m", "finetune.launch.local.rank_process"])


def launch_options(count: int) -> list[str]:
    """Return the options of `accelerate launch` for `count` processes on this machine."""
    return ["--multi_gpu", "--num_processes", str(count), "--num_machines", "1", "--main_process_port", "0"]
