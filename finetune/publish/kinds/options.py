"""The options of a kind, checked before anything is written."""

import re
from dataclasses import dataclass

from core.errors import UserError

GGUF_TYPES = ("F16", "Q8_0")
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SMALLEST_SHARD, _LARGEST_SHARD = 64 * 10**3, 50 * 10**9
_LICENSE_KEY = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


@dataclass(frozen=True)
class Options:
    """Options of all kinds; each kind reads its own.

    `shard_size`: of merged weights, in bytes or as "2GB". `types`: which GGUF files. `columns`: decoding presets as
    Compare writes them; the first is the model's default. `license`: of a dataset, as the Hub
    names it. `repo_id`: the repository of the published model that a demo Space shows. `name`: the name of GGUF
    files. `check`: load the written files back and compare them.
    """

    shard_size: int | str = "2GB"
    types: tuple[str, ...] = GGUF_TYPES
    columns: tuple[str, ...] = ()
    license: str | None = None
    repo_id: str | None = None
    name: str | None = None
    check: bool = True

    def shard_bytes(self) -> int:
        """Return the shard size in bytes. Raises UserError for an invalid size, or one out of range."""
        text = str(self.shard_size).strip().upper().replace(" ", "")
        match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)([KMGT]?B)?", text)
        size = int(float(match[1]) * _UNITS[match[2] or "B"]) if match else 0
        if not _SMALLEST_SHARD <= size <= _LARGEST_SHARD:
            raise UserError("kinds.shard_size", value=str(self.shard_size)[:40])
        return size

    def gguf_types(self) -> tuple[str, ...]:
        """Return the GGUF types, in the table's order. Raises UserError for an unknown type, or none."""
        wanted = {str(name).upper() for name in self.types}
        unknown = sorted(wanted - set(GGUF_TYPES))
        if unknown or not wanted:
            raise UserError("kinds.gguf_type", value=", ".join(unknown)[:80] or "-", known=", ".join(GGUF_TYPES))
        return tuple(name for name in GGUF_TYPES if name in wanted)

    def known_license(self) -> str:
        """Return the license. Raises UserError where none was given: only the person can know it."""
        value = (self.license or "").strip().lower()
        if not _LICENSE_KEY.fullmatch(value):
            raise UserError("kinds.licence", value=(self.license or "-")[:60])
        return value

    def file_name(self, otherwise: str) -> str:
        """Return the name of GGUF files. Raises UserError for an invalid file name."""
        value = self.name or otherwise
        if not _NAME.fullmatch(value):
            raise UserError("kinds.name", value=value[:100])
        return value
