"""One model's columns in one batch: a single prefill, then a single forward a step for all of them.

All rows have the same length, so there is no padding and no mask. Base and tuned columns share the batch through
PEFT's `adapter_names`, a prefill row each.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from inference.columns import Column, Seen, make_column
from inference.loading import Loaded
from inference.prepacked import prepacked
from inference.samplers import Noise
from inference.strategies import ColumnSpec

ADAPTER, BASE = "default", "__base__"
LIKELIEST = 5


@dataclass(frozen=True)
class Panel:
    """What runs in one batch: a loaded model, the prompt's ids, and columns with their place in the comparison.

    Columns that say `model="base"`, and those whose place is in `plain`, run without the adapter.
    """

    loaded: Loaded
    prompt_ids: list[int]
    columns: list[tuple[int, ColumnSpec]]
    plain: frozenset[int] = frozenset()


def end_ids(model: Any) -> frozenset[int]:
    """The end tokens of a model's generation config, as `generate` takes them."""
    ends = plain_model(model).generation_config.eos_token_id
    if ends is None:
        return frozenset()
    return frozenset(int(token) for token in (ends if isinstance(ends, list | tuple) else [ends]))


def plain_model(model: Any) -> Any:
    """The transformers model itself, without the PEFT wrapper around it."""
    return model.get_base_model() if hasattr(model, "peft_config") and hasattr(model, "get_base_model") else model


class Batch:
    """The columns of one panel at work. `begin` and `advance` make one model call each."""

    def __init__(self, panel: Panel, seed: int, max_new_tokens: int, exact: bool = False) -> None:
        self.panel = panel
        self._loaded = panel.loaded
        self._model = panel.loaded.model if exact else prepacked(panel.loaded.model)
        self._device = torch.device(panel.loaded.device)
        inner = plain_model(self._model)
        self._config = inner.config
        self._options = {"logits_to_keep": 1} if inner._supports_logits_to_keep() else {}
        self._noise = Noise(seed, self._device)
        ends = end_ids(self._model)
        self.columns = {i: make_column(spec, ends, max_new_tokens, self._noise) for i, spec in panel.columns}
        self._adapters = {index: self._adapter_of(index, spec) for index, spec in panel.columns}
        self._cache: Any = None
        self._rows = 0
        self.forwards = 0

    def _adapter_of(self, index: int, spec: ColumnSpec) -> str:
        plain = self._loaded.adapter is None or spec.model == "base" or index in self.panel.plain
        return BASE if plain else ADAPTER

    @property
    def working(self) -> dict[int, Column]:
        """The columns that are not done, by index."""
        return {index: column for index, column in self.columns.items() if column.finish is None}

    @torch.inference_mode()
    def begin(self, failed: Callable[[int, Exception], None]) -> None:
        """The prefill, one row a model, and every column's first token."""
        names = sorted(set(self._adapters.values()))
        self._cache = DynamicCache(config=self._config)
        logits = self._forward(torch.tensor([self.panel.prompt_ids] * len(names)), names)
        order = [names.index(self._adapters[index]) for index in self.columns]
        self._rows = len(names)
        self._choose(logits, order, failed)

    @torch.inference_mode()
    def advance(self, failed: Callable[[int, Exception], None]) -> None:
        """One forward for the tokens chosen last, and every column's next ones."""
        tokens = [token for column in self.working.values() for token in column.tokens]
        names = [self._adapters[index] for index, column in self.working.items() for _ in column.tokens]
        logits = self._forward(torch.tensor(tokens)[:, None], names)
        self._rows = len(tokens)
        self._choose(logits, list(range(len(tokens))), failed)

    def _forward(self, ids: Tensor, names: list[str]) -> Tensor:
        """The float32 logits [rows, V] after `ids` [rows, length]."""
        self.forwards += 1
        options: dict[str, Any] = dict(self._options)
        mixed = self._loaded.adapter is not None and BASE in names
        if mixed:
            options["adapter_names"] = names
        with self._loaded.lock if self._loaded.adapter else contextlib.nullcontext():
            seen = self._model(input_ids=ids.to(self._device), past_key_values=self._cache, use_cache=True, **options)
        return seen.logits[:, -1].float()

    def _choose(self, logits: Tensor, order: list[int], failed: Callable[[int, Exception], None]) -> None:
        """Let each column choose from its rows, then bring the cache into the order it goes on in.

        `order` holds the row of `logits` behind each row that the columns look at.
        """
        self._noise.next_step(logits.shape[-1])
        logprobs = logits.log_softmax(-1)
        values, ids = (found.tolist() for found in logprobs.topk(min(LIKELIEST, logits.shape[-1])))
        kept: list[int] = []
        for index, column, rows in list(self._parts(order)):
            seen = Seen(logits[rows], logprobs[rows], [ids[row] for row in rows], [values[row] for row in rows])
            try:
                column.step(seen)
            except Exception as error:  # one column's failure is its own; the caller logs it and tells
                column.stop("error")
                failed(index, error)
            kept += [rows[parent] for parent in column.parents]
        if kept and kept != list(range(self._rows)):
            self._cache.reorder_cache(torch.tensor(kept, device=self._device))

    def _parts(self, order: list[int]) -> Iterator[tuple[int, Column, list[int]]]:
        """Each working column with its rows of the logits, side by side."""
        start = 0
        for index, column in self.working.items():
            width = max(1, len(column.tokens))
            yield index, column, order[start : start + width]
            start += width

    def close(self) -> None:
        """Free the cache."""
        self._cache = None
