"""Rows as tokens in a memory-mapped Arrow file: memory does not grow with the number of rows.

A row is one sequence, or two to compare (chosen and rejected); a packed row has the length of each of its documents.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from finetune.data.tokenizing.tokenize import IGNORED, Encoded

if TYPE_CHECKING:
    import pyarrow

_AT_A_TIME = 1000
Item = TypeVar("Item")


@dataclass(frozen=True)
class TokenRow:
    """`parts` are one sequence or two; `number` is the row's number in its data, from 1; `index` its position in the
    file; `documents` the lengths of the documents of a packed row."""

    parts: tuple[Encoded, ...]
    number: int
    index: int = -1
    documents: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """The length of the longest part in tokens."""
        return max(len(part.input_ids) for part in self.parts)


class TokenRows(Sequence[TokenRow]):
    """The rows of a file written by `write`. `lengths` [n] are the lengths of each row's longest part."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        with pa.memory_map(str(path)) as file:
            self._table: Any = pa.ipc.open_file(file).read_all()
        self.lengths: np.ndarray = self._table["length"].to_numpy()
        self._ends = np.cumsum([batch.num_rows for batch in self._table.to_batches()])
        self._batches = self._table.to_batches()

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        batch = int(np.searchsorted(self._ends, index, side="right"))
        inside = index - (int(self._ends[batch - 1]) if batch else 0)
        row = {name: self._batches[batch][name][inside] for name in ("ids", "learned", "number", "documents")}
        parts = zip(row["ids"].values, row["learned"].values, strict=True)
        documents = tuple(row["documents"].as_py() or ())
        return TokenRow(tuple(_part(*part) for part in parts), row["number"].as_py(), index, documents)

    def __iter__(self) -> Iterator[TokenRow]:
        return (self[index] for index in range(len(self)))


def _part(ids: Any, learned: Any) -> Encoded:
    tokens = ids.values.to_numpy(zero_copy_only=False)
    mask = learned.values.to_numpy(zero_copy_only=False)
    return Encoded(tokens, np.where(mask, tokens, IGNORED), len(tokens), False)  # type: ignore[arg-type]


def write(path: Path, rows: Iterable[TokenRow]) -> TokenRows:
    """Write rows as they arrive and open the file."""
    import pyarrow as pa

    schema = _schema()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as file:
        for lot in in_lots(rows, _AT_A_TIME):
            file.write_batch(pa.RecordBatch.from_pylist([_stored(row) for row in lot], schema=schema))
    return TokenRows(path)


def _schema() -> "pyarrow.Schema":
    import pyarrow as pa

    parts = [("ids", pa.list_(pa.list_(pa.int32()))), ("learned", pa.list_(pa.list_(pa.bool_())))]
    return pa.schema([*parts, ("length", pa.int32()), ("number", pa.int64()), ("documents", pa.list_(pa.int32()))])


def _stored(row: TokenRow) -> dict[str, Any]:
    return {
        "ids": [part.input_ids for part in row.parts],
        "learned": [[label != IGNORED for label in part.labels] for part in row.parts],
        "length": row.length,
        "number": row.number,
        "documents": list(row.documents) or None,
    }


def in_lots(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of `size` items, in order."""
    lot: list[Item] = []
    for item in items:
        lot.append(item)
        if len(lot) == size:
            yield lot
            lot = []
    if lot:
        yield lot
