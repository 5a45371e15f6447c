"""The tensors of a model folder, read a few rows at a time, with the adapter's changes applied on the way.

Files are read, not memory-mapped, so that the process does not grow with what it has read.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from inference.models.fingerprint import Tensor

if TYPE_CHECKING:
    import torch

BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
FLOATS = ("F64", "F32", "F16", "BF16")
_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class LowRank:
    """`scale * B @ A` on top of a weight, A [rank, in] and B [out, rank]; transposed where the weight is [in, out].

    `magnitude` [out] makes it DoRA: each row is brought to that length afterwards (Liu et al. 2024, arXiv 2402.09353).
    """

    a: Tensor
    b: Tensor
    scale: float
    transposed: bool = False
    magnitude: Tensor | None = None


@dataclass(frozen=True)
class WeightPart:
    """One tensor as it will be written: `source` is where its bytes come from, `dtype` (as safetensors) its own."""

    name: str
    source: Tensor
    dtype: str
    change: LowRank | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def rows(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes as it will be written."""
        return self.numbers * BYTES[self.dtype]


class Reader:
    """Reads parts block by block. Use it in a `with`: it keeps files open."""

    def __init__(self) -> None:
        self._files: dict[Path, BinaryIO] = {}
        self._factors: tuple[LowRank, torch.Tensor, torch.Tensor] | None = None

    def __enter__(self) -> "Reader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()

    def blocks(self, part: WeightPart, most: int, multiple: int = 1) -> "Iterator[torch.Tensor]":
        """Yield the tensor in blocks of complete rows, each about `most` bytes in float32; rows a multiple of
        `multiple`."""
        a_row = max(1, part.numbers // max(part.rows, 1)) * 4
        step = max(1, most // (a_row * multiple)) * multiple
        for start in range(0, part.rows, step):
            yield self._block(part, start, min(start + step, part.rows))

    def _block(self, part: WeightPart, start: int, stop: int) -> "torch.Tensor":
        """Return rows `start` to `stop`, changed in float32 and rounded once."""
        import torch

        rows = self._rows(part.source, start, stop)
        if part.change is not None:
            rows = self._changed(rows.to(torch.float32), part.change, start, stop)
        return rows.to(getattr(torch, _NAMES[part.dtype]))

    def _changed(self, rows: "torch.Tensor", change: LowRank, start: int, stop: int) -> "torch.Tensor":
        import torch

        a, b = self._pair(change)
        if change.transposed:
            return rows.addmm_(a[:, start:stop].T, b.T, alpha=change.scale)
        rows.addmm_(b[start:stop], a, alpha=change.scale)
        if change.magnitude is not None:
            wanted = self._rows(change.magnitude, start, stop).to(torch.float32)
            rows *= (wanted.reshape(-1) / rows.norm(dim=1)).unsqueeze(1)
        return rows

    def _pair(self, change: LowRank) -> "tuple[torch.Tensor, torch.Tensor]":
        """Return A and B of the tensor that is being read, in float32."""
        import torch

        if self._factors is None or self._factors[0] is not change:
            self._factors = None
            a, b = (self._rows(tensor, 0, tensor.shape[0]).to(torch.float32) for tensor in (change.a, change.b))
            self._factors = (change, a, b)
        return self._factors[1:]

    def _rows(self, tensor: Tensor, start: int, stop: int) -> "torch.Tensor":
        import torch

        if tensor.path not in self._files:
            self._files[tensor.path] = tensor.path.open("rb")
        file = self._files[tensor.path]
        row = (tensor.end - tensor.start) // (tensor.shape[0] if tensor.shape else 1)
        content = torch.empty((stop - start) * row, dtype=torch.uint8)
        file.seek(tensor.start + start * row)
        buffer: Any = content.numpy()
        count = file.readinto(buffer)  # type: ignore[attr-defined]
        assert count == content.numel(), "sizes were checked when the header was read"
        shape = (stop - start, *tensor.shape[1:]) if tensor.shape else ()
        return content.view(getattr(torch, _NAMES[tensor.dtype])).reshape(shape)
