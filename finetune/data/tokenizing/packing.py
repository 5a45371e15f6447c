"""Packs short documents into shared rows, so that a batch has little padding. Packing depends on their order alone."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from finetune.data.tokenizing.token_rows import TokenRow
from finetune.data.tokenizing.tokenize import IGNORED, Encoded

OPEN = 32
"""How many rows are filled at a time: a document goes into the fullest of them in which it fits."""


def pack(rows: Iterable[TokenRow], length: int) -> Iterator[TokenRow]:
    """Yield rows of at most `length` tokens, each of one or more documents (best fit among `OPEN` open rows, Johnson
    1974). The first token of a document carries no loss: the token before it belongs to another document."""
    filled: list[list[TokenRow]] = []
    used: list[int] = []
    for row in rows:
        room = [index for index, taken in enumerate(used) if taken + row.length <= length]
        if room:
            best = max(room, key=used.__getitem__)
            filled[best].append(row)
            used[best] += row.length
        else:
            if len(filled) == OPEN:
                fullest = max(range(OPEN), key=used.__getitem__)
                used.pop(fullest)
                yield _joined(filled.pop(fullest))
            filled.append([row])
            used.append(row.length)
    for left in filled:
        yield _joined(left)


def _joined(rows: Sequence[TokenRow]) -> TokenRow:
    ids = np.concatenate([row.parts[0].input_ids for row in rows])
    labels = np.concatenate([row.parts[0].labels for row in rows])
    lengths = tuple(row.length for row in rows)
    labels[[0, *np.cumsum(lengths)[:-1]]] = IGNORED
    joined = Encoded(ids.tolist(), labels.tolist(), len(ids), False)
    return TokenRow((joined,), rows[0].number, documents=lengths)


def positions(documents: Sequence[int], length: int) -> np.ndarray:
    """Return the position [length] of each token in its own document; the padding at the end counts as a document."""
    whole = [*documents, length - sum(documents)]
    return np.concatenate([np.arange(part) for part in whole])
