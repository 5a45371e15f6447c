"""The keys and values of all layers in one tensor, so that a row is copied by one operator for all layers."""

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

    def copy(self, pairs: list[tuple[int, int]], before: int, rows: int) -> None:
        """Copy rows (from, to), of which no one is both, with room for `rows` where `before` were used."""
        if rows > self._room.shape[2]:
            room = self._new(max(rows, self._most_rows))
            room[:, :, :before, :, : self.length] = self._room[:, :, :before, :, : self.length]
            self._room = room
        written = self._room[:, :, :, :, : self.length]
        for source, place in pairs:
            written[:, :, place].copy_(written[:, :, source])

    def free(self) -> None:
        """Let go of everything."""
        self._room = torch.empty(0)
