"""Loads a model and its tokenizer from their files."""

import copy
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.runtime import no_planned_attention
from inference.models import fingerprint
from inference.models.adapters import keeps_base
from inference.models.hub_files import megabytes
from inference.models.load_errors import in_words
from inference.models.types import AdapterFiles, Fetched, Source

DTYPES = ("float32", "bfloat16", "float16")
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model in evaluation mode, ready to run.

    `model` is a transformers model or, with an adapter, a PeftModel whose adapter is called "default". `dtype` is
    "float32", "bfloat16" or "float16", `device` such as "cpu" or "cuda:0", `adapter` the adapter's name or None. Hold
    `lock` around a forward pass with an adapter: PEFT switches adapters for the whole model.
    """

    model: Any
    tokenizer: Any
    name: str
    fingerprint: str
    context_length: int
    dtype: str
    device: str
    adapter: str | None
    source: Source
    lock: threading.RLock = field(default_factory=threading.RLock)


def load(source: Source, dtype: str | None = None, device: str | None = None) -> Loaded:
    """Load a model from safetensors only, without running any code that came with it.

    By default `dtype` is float32 on a CPU and bfloat16 on a GPU. Raises UserError: no such dtype or device, not enough
    memory, damaged or missing weights, an adapter that cannot be loaded.
    """
    device = choose_device(device)
    dtype = choose_dtype(dtype, device)
    model = load_base(source.base, dtype, device)
    if source.adapter is not None:
        model = put_adapter(model, source.adapter)
    return finish(model, source, dtype, device)


def finish(model: Any, source: Source, dtype: str, device: str) -> Loaded:
    """Return a model with its tokenizer: the adapter's own if there is one, with the chat template it was trained
    with."""
    folder = source.base.folder
    if source.adapter is not None and (source.adapter.folder / "tokenizer_config.json").is_file():
        folder = source.adapter.folder
    return Loaded(
        model=model.eval(),
        tokenizer=load_tokenizer(folder),
        name=source.name,
        fingerprint=source.base.fingerprint,
        context_length=source.base.context_length,
        dtype=dtype,
        device=device,
        adapter=source.name if source.adapter else None,
        source=source,
    )


def load_base(base: Fetched, dtype: str, device: str) -> Any:
    """Return the bare base model in evaluation mode. Raises UserError as `load` does."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    no_planned_attention()
    check_memory(base, dtype, device)
    open_model: Any = AutoModelForCausalLM.from_pretrained
    with in_words("models.cannot_load", value=base.name):
        try:
            model, facts = open_model(
                base.folder,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
        except SafetensorError as error:
            raise UserError("models.damaged", file="model.safetensors", folder=base.folder) from error
    missing = sorted(facts["missing_keys"])
    if missing:
        raise UserError("models.missing_weights", value=base.name, names=", ".join(missing[:3]))
    return model.eval().to(device)


def put_adapter(model: Any, adapter: AdapterFiles) -> Any:
    """Return the model with the adapter on it: `model` itself is changed. Raises UserError if that fails."""
    from peft import PeftModel

    with in_words("models.bad_adapter", value=adapter.name):
        return PeftModel.from_pretrained(
            model, str(adapter.folder), low_cpu_mem_usage=keeps_base(adapter.config), torch_device=str(model.device)
        ).eval()


def twin(model: Any) -> Any:
    """Return a second model on the same weights: its modules are separate, so an adapter on one does not affect the
    other."""
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    return copy.deepcopy(model, shared)


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a model folder, with its chat template if it has one. Raises UserError."""
    from transformers import AutoTokenizer

    with in_words("models.no_tokenizer", value=str(folder)):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def choose_device(device: str | None) -> str:
    """Return the requested device, or the first GPU, or the CPU. Raises UserError for one that does not exist here."""
    import torch

    known = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    known += ["mps"] if torch.backends.mps.is_available() else []
    known.append("cpu")
    wanted = "cuda:0" if device == "cuda" else device or known[0]
    if wanted not in known:
        raise UserError("models.device", value=device, known=", ".join(known))
    return wanted


def choose_dtype(dtype: str | None, device: str) -> str:
    """Return the requested dtype; by default float32 on a CPU (exact), bfloat16 on a GPU, float16 on one that lacks
    that."""
    import torch

    if dtype is None:
        if not device.startswith("cuda"):
            return "float32"
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if dtype not in DTYPES:
        raise UserError("models.dtype", value=dtype)
    return dtype


def check_memory(base: Fetched, dtype: str, device: str) -> None:
    """Raise UserError if the weights alone exceed the free memory: the system would kill the process."""
    needed, free = needed_memory(base, dtype), free_memory(device)
    if needed > free:
        raise UserError(
            "models.no_memory", value=base.name, dtype=dtype, needed=megabytes(needed), free=megabytes(free)
        )


def needed_memory(base: Fetched, dtype: str) -> int:
    """Return the bytes of the weights in a dtype."""
    return fingerprint.parameters(base.folder) * BYTES[dtype]


def free_memory(device: str) -> int:
    """Return the bytes free on a device; on a GPU including what torch has reserved there and does not use."""
    import psutil
    import torch

    if device.startswith("cuda"):
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return psutil.virtual_memory().available
