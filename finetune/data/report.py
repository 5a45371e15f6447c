"""The report of an import: the numbers, the findings, and how the file was read."""

from dataclasses import dataclass, field

from core.rows import Row
from finetune.config.mapping import Mapping
from finetune.data.findings import DataFinding


@dataclass(frozen=True)
class Report:
    """rows_in = rows_kept + the rows of findings with severity "error" (each row has at most one of those).

    `statistics`: rows, characters, turns, and characters of the median and the longest row.
    """

    kind: str
    format: str
    rows_in: int
    rows_kept: int
    findings: list[DataFinding]
    file_format: str = ""
    mapping: Mapping | None = None
    evidence: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    statistics: dict[str, int] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether any row is left."""
        return self.rows_kept > 0

    def to_json(self) -> dict[str, object]:
        """Return `{kind, format, rows_in, rows_kept, findings: [{rule, severity, rows, remedy}]}`."""
        return {
            "kind": self.kind,
            "format": self.format,
            "rows_in": self.rows_in,
            "rows_kept": self.rows_kept,
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass(frozen=True)
class KeptRow:
    """A row that is kept: its number in the file, the row, and the row as canonical JSON in UTF-8."""

    number: int
    row: Row
    canonical: bytes
