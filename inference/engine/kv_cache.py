"""The keys and values of all layers in one tensor, so that a row is copied by one operator for all layers."""

from itertools import combinations

import torch
from torch import Tensor


class LeanCache:
    """Memory for `rows` rows of `tokens` positions, with the dtype and device of `like`; on a CPU, memory that is not
    written yet is not allocated.

    `length` is how many positions every row has. Keys and values of a layer are [rows, key_heads, length, head_dim].
    Hypotheses of a beam search share long prefixes: the number of positions that two slots have in common is
    remembered, and those are not copied.
    """

    def __init__(self, layers: int, heads: int, size: int, like: Tensor, rows: int, tokens: int) -> None:
        self._shape = (layers, 2, heads, size)
        self._dtype, self._device, self._most_rows, self._tokens = like.dtype, like.device, rows, tokens
        self._room = torch.empty(0)
        self.length = self._before = 0
        self._alike: dict[tuple[int, int], int] = {}

    def extend(self, positions: int) -> None:
        """Make the newest positions part of every row; their keys and values are written next."""
        self._before, self.length = self.length, self.length + positions

    def layer(self, number: int, rows: int) -> tuple[Tensor, Tensor, int]:
        """Return keys and values of a layer's rows up to the newest position, and where the new positions begin."""
        if not self._room.numel():
            self._room = self._new()
        keys, values = self._room[number, :, :rows, :, : self.length]
        return keys, values, self._before

    def _new(self) -> Tensor:
        """Allocate all rows at once: on a GPU there may be no memory to copy the first rows to a larger tensor."""
        layers, two, heads, size = self._shape
        shape = layers, two, self._most_rows, heads, self._tokens, size
        return torch.empty(shape, dtype=self._dtype, device=self._device)

    @torch.inference_mode()
    def copy(self, pairs: list[tuple[int, int]]) -> None:
        """Copy slots (from, to), none of which is both."""
        for source, target in pairs:
            parted = self._common(source, target)
            written = self._room[:, :, :, :, parted : self.length]
            written[:, :, target].copy_(written[:, :, source])
        if pairs:
            self._remember(pairs)

    def _common(self, first: int, second: int) -> int:
        """Return how many leading positions two slots are known to have in common."""
        return self.length if first == second else self._alike.get((min(first, second), max(first, second)), 0)

    def _remember(self, pairs: list[tuple[int, int]]) -> None:
        """Update the common prefixes after copying: a slot has in common with another what their sources had."""
        sources = {slot: source for source, slot in pairs}
        slots = {*(slot for pair in self._alike for slot in pair), *sources, *sources.values()}
        found = ((first, second, self._common(sources.get(first, first), sources.get(second, second)))
                 for first, second in combinations(sorted(slots), 2))  # fmt: skip
        self._alike = {(first, second): common for first, second, common in found if common}

    def go_back(self, positions: int) -> None:
        """Remove the newest positions of every row."""
        self.length -= positions
        self._alike = {pair: min(common, self.length) for pair, common in self._alike.items()}

    def free(self) -> None:
        """Free the memory."""
        self._room = torch.empty(0)
