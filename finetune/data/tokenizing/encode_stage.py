"""Encodes the rows of a stage for its objective: answers, windows of text that share rows, pairs to compare."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from core.rows import ChatRow, PreferenceRow, Row
from finetune.config.blocks import Pretrain, Sft, Stage
from finetune.data.tokenizing.packing import pack
from finetune.data.tokenizing.token_rows import TokenRow, in_lots
from finetune.data.tokenizing.tokenize import Encoded, encode_all

AT_A_TIME = 2000
_TOLD = 3


@dataclass
class Tally:
    """Counts of a stage's rows: `dropped` rows have nothing to learn, `refused` ones are refused by the chat template,
    `cut` ones are longer than the limit."""

    rows: int = 0
    kept: int = 0
    dropped: int = 0
    refused: int = 0
    cut: int = 0
    tokens: int = 0
    learned: int = 0
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def refuse(self, problem: str) -> None:
        """Count a row that the template refuses, and keep the first few reasons."""
        self.refused += 1
        if problem not in self.problems and len(self.problems) < _TOLD:
            self.problems.append(problem)

    def keep(self, parts: tuple[Encoded, ...], cut: bool) -> None:
        """Count a row that is learned from."""
        self.kept += 1
        self.cut += cut
        self.tokens += sum(len(part.input_ids) for part in parts)
        self.learned += sum(sum(label != -100 for label in part.labels[1:]) for part in parts)


class StageEncoder:
    """Encodes a stage's rows (with their numbers) as TokenRows, and counts them in `tally`.

    `tick` is called now and then with the number of rows read; where it returns True the encoder ends early. `separate`
    turns packing off, for models in which a packed document would see its neighbors.
    """

    def __init__(self, stage: Stage, tokenizer: Any, max_length: int, separate: bool = False) -> None:
        self.stage, self.tokenizer, self.max_length = stage, tokenizer, max_length
        settings = stage.settings
        self.packing = isinstance(settings, Pretrain) and settings.packing and not separate
        self.tally = Tally()

    def __call__(
        self, rows: Iterable[tuple[int, Row]], tick: Callable[[int], bool] = lambda done: False
    ) -> Iterator[TokenRow]:
        found = self._all(rows, tick)
        return pack(found, self.max_length) if self.packing else found

    def _all(self, rows: Iterable[tuple[int, Row]], tick: Callable[[int], bool]) -> Iterator[TokenRow]:
        encode = {"sft": self._answers, "pretrain": self._windows, "dpo": self._pairs}[self.stage.objective]
        for lot in in_lots(rows, AT_A_TIME):
            if tick(self.tally.rows):
                return
            self.tally.rows += len(lot)
            yield from encode([number for number, _ in lot], [row for _, row in lot])

    def _answers(self, numbers: list[int], rows: list[Row]) -> Iterator[TokenRow]:
        settings = self.stage.settings
        assert isinstance(settings, Sft)
        encoded = encode_all(rows, self.tokenizer, self.max_length, settings.learn)
        for number, row in zip(numbers, encoded, strict=True):
            yield from self._kept((row,), number)

    def _windows(self, numbers: list[int], rows: list[Row]) -> Iterator[TokenRow]:
        """Yield every token of a text to be learned: a text longer than the limit continues in the next window."""
        whole = encode_all(rows, self.tokenizer, 2**40)
        for number, row in zip(numbers, whole, strict=True):
            starts = range(0, max(len(row.input_ids), 1), self.max_length)
            parts = [slice(start, start + self.max_length) for start in starts]
            windows = [Encoded(row.input_ids[part], row.labels[part], row.total, False) for part in parts]
            kept = [window for window in windows if window.learns]
            if not kept:
                self.tally.dropped += 1
                continue
            self.tally.keep(tuple(kept), cut=False)
            yield from (TokenRow((window,), number) for window in kept)

    def _pairs(self, numbers: list[int], rows: list[Row]) -> Iterator[TokenRow]:
        pairs = [row for row in rows if isinstance(row, PreferenceRow)]
        sides = [
            encode_all([answered(row, side) for row in pairs], self.tokenizer, self.max_length, "last-answer")
            for side in ("chosen", "rejected")
        ]
        for number, *parts in zip(numbers, *sides, strict=True):
            same = list(parts[0].input_ids) == list(parts[1].input_ids)
            yield from self._kept(tuple(parts), number, drop=same)

    def _kept(self, parts: tuple[Encoded, ...], number: int, drop: bool = False) -> Iterator[TokenRow]:
        problem = next((part.problem for part in parts if part.problem), None)
        if problem:
            self.tally.refuse(problem)
        elif drop or not all(part.learns for part in parts):
            self.tally.dropped += 1
        else:
            self.tally.keep(parts, cut=any(part.truncated for part in parts))
            yield TokenRow(parts, number)


def answered(row: PreferenceRow, side: str) -> ChatRow:
    """Return the prompt with one of its two answers (`side`: "chosen" or "rejected")."""
    return ChatRow(messages=[*row.prompt, *getattr(row, side)])
