"""The keys and values of all layers in one tensor, so that rows are moved by one operator for all layers."""

import torch
from torch import Tensor


class LeanCache:
    """Room for `rows` rows of `tokens` positions; what is not written yet takes no memory.

    `length` is how many positions every row has. Keys and values of a layer are [rows, key_heads, length, head_dim].
    """

    def __init__(self, layers: int, heads: int, size: int, dtype: torch.dtype, rows: int, tokens: int) -> None:
        self._shape = (layers, 2, heads, size)
        self._dtype, self._most_rows, self._tokens = dtype, rows, tokens
        self._room = torch.empty(0)
        self.length = self._before = 0

    def extend(self, positions: int) -> None:
        """Make the newest positions part of every row; their keys and values are written next."""
        self._before, self.length = self.length, self.length + positions

    def layer(self, number: int, rows: int) -> tuple[Tensor, Tensor, int]:
        """Keys and values of a layer's rows up to the newest position, and where the new ones begin."""
        if not self._room.numel():
            self._room = self._new(rows)
        keys, values = self._room[number, :, :rows, :, : self.length]
        return keys, values, self._before

    def _new(self, rows: int) -> Tensor:
        layers, two, heads, size = self._shape
        return torch.empty(layers, two, rows, heads, self._tokens, size, dtype=self._dtype)

    def reorder(self, rows: list[int]) -> None:
        """Row i becomes what row `rows[i]` was. Rows that stay what they are, are not touched."""
        if len(rows) > self._room.shape[2]:
            room = self._new(max(len(rows), self._most_rows))
            room[:, :, : len(rows), :, : self.length] = self._room[:, :, rows, :, : self.length]
            self._room = room
            return
        moved = [place for place, row in enumerate(rows) if place != row]
        if moved:
            there = self._room[:, :, :, :, : self.length]
            there[:, :, moved] = there[:, :, [rows[place] for place in moved]]

    def free(self) -> None:
        """Let go of everything."""
        self._room = torch.empty(0)
