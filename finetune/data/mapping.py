"""Which column of a file is which: recognised, and open to correction by the user."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from core.errors import UserError
from core.words import say

RowFormat = Literal["alpaca", "sharegpt", "messages", "prompt_completion", "text"]
Kind = Literal["chat", "text", "pair", "preference"]

FORMATS: dict[RowFormat, tuple[Kind, ...]] = {
    "alpaca": ("chat", "preference", "pair"),
    "sharegpt": ("chat", "preference"),
    "messages": ("chat", "preference"),
    "prompt_completion": ("chat", "preference", "pair"),
    "text": ("text",),
}
"""The formats, each with the kinds of row it can become, the usual one first."""

PARTS = ("messages", "prompt", "input", "answer", "system", "history", "tools", "text", "chosen", "rejected")
"""The parts a column can play; each is a field of `Mapping` with the column's name."""


class Mapping(BaseModel):
    """How the rows of a file are read: their format, the kind they become, and the column for each part.

    alpaca: prompt (+ input, system, history), answer; sharegpt and messages: messages (+ system, tools);
    prompt_completion: prompt, answer (+ system, history); text: text. Kind `preference` has chosen and rejected in
    place of the answer (messages may be left out where both hold whole conversations); kind `pair` keeps prompt and
    answer as source and target.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: RowFormat
    kind: Kind = "chat"
    messages: str | None = None
    prompt: str | None = None
    input: str | None = None
    answer: str | None = None
    system: str | None = None
    history: str | None = None
    tools: str | None = None
    text: str | None = None
    chosen: str | None = None
    rejected: str | None = None

    def columns(self) -> dict[str, str]:
        """The parts that have a column: {"prompt": "instruction", ...}."""
        return {part: column for part in PARTS if (column := getattr(self, part)) is not None}

    def needed(self) -> tuple[str, ...]:
        """The parts that must have a column for this format and kind."""
        if self.format == "text":
            return ("text",)
        answers = ("chosen", "rejected") if self.kind == "preference" else ("answer",)
        if self.format in ("sharegpt", "messages"):
            return answers if self.kind == "preference" else ("messages",)
        return ("prompt", *answers)

    def fit(self, columns: Sequence[str], listed: str) -> None:
        """Check the mapping against a file's columns (`listed`: how the sentence shows them).

        Raises UserError that names the missing part or column and lists the columns there are.
        """
        if self.kind not in FORMATS[self.format]:
            kinds = ", ".join(say(f"data.kind.{kind}") for kind in FORMATS[self.format])
            raise UserError("data.mapping_kind", kind=say(f"data.kind.{self.kind}"), format=self._title(), kinds=kinds)
        for part in self.needed():
            if getattr(self, part) is None:
                raise UserError("data.mapping_part", part=part, format=self._title(), columns=listed)
        for part, column in self.columns().items():
            if column not in columns:
                raise UserError("data.mapping_column", part=part, column=column[:80], columns=listed)

    def _title(self) -> str:
        return say(f"data.format.{self.format}")
