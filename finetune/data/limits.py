"""The limits of a data file, all in one place."""

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True)
class ImportLimits:
    """Bounds on one import; sizes in bytes, `row_characters` in characters.

    `document_bytes` bounds a JSON file that is one object (`{"data": [...]}`), which is read whole; everything else
    is streamed.
    """

    file_bytes: int = 1024 * MIB
    expanded_bytes: int = 2048 * MIB
    document_bytes: int = 256 * MIB
    rows: int = 1_000_000
    row_characters: int = 2_000_000
    columns: int = 1_000


LIMITS = ImportLimits()
