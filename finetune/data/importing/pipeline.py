"""One pass over the rows of one or more files: converts each row, keeps the good ones and lists the others."""

import hashlib
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median

from core import limits as bounds
from core.errors import UserError
from core.rows import Row
from finetune.config.mapping import Mapping
from finetune.data.findings import findings
from finetune.data.importing.convert import Converted, canonical, convert
from finetune.data.importing.raw_rows import OnProgress, raw_rows
from finetune.data.importing.recognize import Recognized, listed, recognize_file
from finetune.data.importing.streams import DataFile, short_name
from finetune.data.limits import ImportLimits
from finetune.data.report import KeptRow, Report
from finetune.data.store import texts_of


class Intake:
    """Iterate over it once for the rows that are kept; then `report` returns the findings.

    A row that breaks several rules is counted under the first. Of rows that are equal after conversion, the first is
    kept.
    """

    def __init__(
        self,
        files: Sequence[DataFile],
        mapping: Mapping | None,
        limits: ImportLimits,
        progress: OnProgress | None = None,
    ) -> None:
        self._files, self._limits, self._progress = files, limits, progress
        self._recognized: Recognized = recognize_file(files[0], limits)
        self.mapping = self._chosen(mapping)
        self._found: defaultdict[str, list[int]] = defaultdict(list)
        self._seen: set[bytes] = set()
        self._lengths = array("q")
        self._turns = 0
        self._most = bounds.bound("rows")
        self.rows_in = 0

    def _chosen(self, mapping: Mapping | None) -> Mapping:
        chosen = mapping or self._recognized.mapping
        columns = self._recognized.columns
        if chosen is None:
            raise UserError("data.unrecognised", name=self._files[0].name, columns=listed(columns))
        chosen.fit(columns, listed(columns))
        return chosen

    def __iter__(self) -> Iterator[KeptRow]:
        done, total = 0, sum(file.size for file in self._files)
        for file in self._files:
            for raw in raw_rows(file, self._limits, self._file_progress(done, total)):
                self._one_more(file.name)
                if kept := self._take(convert(raw, self.mapping)):
                    yield kept
            done += file.size

    def _one_more(self, name: str) -> None:
        """Count a row. Raises UserError where there are too many rows, for any file or for one person on this page."""
        self.rows_in += 1
        if self.rows_in > self._limits.rows:
            raise UserError("data.too_many_rows", name=name, most=self._limits.rows)
        if self._most is not None and self.rows_in > self._most:
            raise UserError("limits.rows", name=name, most=self._most, variable="TUNESCOPE_LIMIT_ROWS")

    def _file_progress(self, done: int, total: int) -> OnProgress | None:
        progress = self._progress
        return None if progress is None else lambda part, _: progress(done + part, total)

    def _take(self, converted: Converted) -> KeptRow | None:
        row, rule = converted.row, converted.rule
        content = b""
        if row is not None:
            try:
                content = canonical(row).encode()
            except UnicodeEncodeError:
                rule = "unreadable"
        rule = rule or self._duplicate(content)
        if row is None or rule:
            self._found[rule or "unreadable"].append(self.rows_in)
            return None
        for warning in converted.warnings:
            self._found[warning].append(self.rows_in)
        self._count(row)
        return KeptRow(self.rows_in, row, content)

    def _duplicate(self, content: bytes) -> str | None:
        digest = hashlib.blake2b(content, digest_size=16).digest()
        if digest in self._seen:
            return "duplicate"
        self._seen.add(digest)
        return None

    def _count(self, row: Row) -> None:
        texts = texts_of(row)
        self._lengths.append(sum(len(text) for text in texts))
        self._turns += len(texts)

    def report(self) -> Report:
        """Return the report, after the rows were iterated over."""
        return Report(
            kind=self.mapping.kind,
            format=self.mapping.format,
            rows_in=self.rows_in,
            rows_kept=len(self._lengths),
            findings=findings(self._found),
            file_format=self._recognized.file_format,
            mapping=self.mapping,
            evidence=self._recognized.evidence,
            columns=[short_name(column) for column in self._recognized.columns],
            statistics=self._statistics(),
        )

    def _statistics(self) -> dict[str, int]:
        lengths = self._lengths
        return {
            "rows": len(lengths),
            "turns": self._turns,
            "characters": sum(lengths),
            "characters_median": int(median(lengths)) if lengths else 0,
            "characters_longest": max(lengths, default=0),
        }
