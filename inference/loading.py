"""A model's files become a model in memory, and a tokenizer."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference.sources import Source


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model in evaluation mode, ready to be asked.

    `model` is a transformers model or, with an adapter, a PeftModel whose adapter is called "default". `dtype` is
    "float32", "bfloat16" or "float16", `device` such as "cpu" or "cuda:0", `adapter` the adapter's name or None.
    Hold `lock` around a forward: PEFT switches adapters for the whole model.
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
    """Load a model, safetensors only, without running any code that came with it. Raises UserError."""
    raise NotImplementedError


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder, with its chat template where it has one. Raises UserError."""
    raise NotImplementedError


def mixes(loaded: Loaded) -> bool:
    """Whether one batch can hold rows with and without the adapter, exactly: `adapter_names=["default", "__base__"]`."""
    raise NotImplementedError
