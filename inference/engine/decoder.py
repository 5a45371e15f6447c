"""What computes the rows of a batch: ids in, logits out, with a cache of keys and values.

`PlainDecoder` runs the transformers model as it is; `inference.engine.fast_llama` has one for Llama-like models on a
CPU or on one GPU.
"""

import contextlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, DynamicLayer

from inference.models.loading import Loaded

ADAPTER, BASE = "default", "__base__"


@dataclass(frozen=True)
class Output:
    """The float32 `logits` [rows, positions, V] of the newest or of all positions and, if requested, the hidden states
    [rows, positions, size] after the embedding and after each layer (the last one normed)."""

    logits: Tensor
    layers: Sequence[Tensor] = ()


class Decoder(Protocol):
    """The rows of one batch and their keys and values."""

    @property
    def can_go_back(self) -> bool:
        """Whether the newest positions can be removed."""

    def forward(self, ids: Tensor, tuned: list[bool], *, hidden: bool = False, every: bool = False) -> Output:
        """Extend the rows by `ids` [rows, length]; `tuned` says which rows run with the adapter. `every`: return the
        logits of all positions, not only of the newest."""

    def reorder(self, rows: list[int]) -> None:
        """Let row i continue the former row `rows[i]`; there may be more or fewer rows than before."""

    def go_back(self, positions: int) -> None:
        """Remove the newest positions."""

    def close(self) -> None:
        """Free the keys and values."""


def plain_model(model: Any) -> Any:
    """Return the transformers model without the PEFT wrapper around it."""
    return model.get_base_model() if hasattr(model, "peft_config") and hasattr(model, "get_base_model") else model


class PlainDecoder:
    """Runs a transformers model, or a PEFT model with `adapter_names` for each row."""

    def __init__(self, loaded: Loaded, model: Any) -> None:
        self._loaded, self._model = loaded, model
        inner = plain_model(model)
        self._cache: Any = DynamicCache(config=inner.config)
        known = inspect.signature(inner.forward).parameters
        self._newest = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self._cache_name = "cache_params" if "cache_params" in known else "past_key_values"  # Mamba's own name for it

    @property
    def can_go_back(self) -> bool:
        """False if a layer has a sliding window or a recurrent state."""
        return all(type(layer) is DynamicLayer for layer in self._cache.layers)

    def forward(self, ids: Tensor, tuned: list[bool], *, hidden: bool = False, every: bool = False) -> Output:
        options: dict[str, Any] = {} if every else dict(self._newest)
        if hidden:
            options["output_hidden_states"] = True
        if self._loaded.adapter is not None and not all(tuned):
            options["adapter_names"] = [ADAPTER if own else BASE for own in tuned]
        ids = ids.to(self._loaded.device)
        with self._loaded.lock if self._loaded.adapter else contextlib.nullcontext():
            seen = self._model(input_ids=ids, use_cache=True, **{self._cache_name: self._cache}, **options)
        logits = seen.logits if every else seen.logits[:, -1:]
        return Output(logits.float(), seen.hidden_states if hidden else ())

    def reorder(self, rows: list[int]) -> None:
        self._cache.reorder_cache(torch.tensor(rows, device=self._loaded.device))

    def go_back(self, positions: int) -> None:
        self._cache.crop(-positions)

    def close(self) -> None:
        self._cache = None
