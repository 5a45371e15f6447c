"""Which column of a file is which: recognized, and can be corrected by the user."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from core.errors import UserError
from core.words import say
from finetune.config.problems import refusal

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
"""The parts that a column can be; each is a field of `Mapping` with the column's name."""


def _usual_format(parts: Iterable[str]) -> RowFormat:
    if "messages" in parts or ("chosen" in parts and "prompt" not in parts):
        return "messages"
    if "text" in parts and "prompt" not in parts:
        return "text"
    return "alpaca" if "input" in parts else "prompt_completion"


def _usual_kind(parts: Iterable[str]) -> Kind:
    if "chosen" in parts or "rejected" in parts:
        return "preference"
    return "text" if _usual_format(parts) == "text" else "chat"


class Mapping(BaseModel):
    """How the rows of a file are read: their format, the kind they become, and the column of each part.

    Format and kind may be omitted: they are derived from the parts.

    alpaca: prompt (+ input, system, history), answer; sharegpt and messages: messages (+ system, tools);
    prompt_completion: prompt, answer (+ system, history); text: text. Kind `preference` has chosen and rejected in
    place of the answer (messages may be omitted where both hold whole conversations); kind `pair` keeps prompt and
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

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, raw: Any) -> Any:
        """Fill in the usual format and kind of the parts where they are not given."""
        if not isinstance(raw, dict):
            return raw
        return {"format": _usual_format(raw), "kind": _usual_kind(raw), **raw}

    def columns(self) -> dict[str, str]:
        """Return the parts that have a column: {"prompt": "instruction", ...}."""
        return {part: column for part in PARTS if (column := getattr(self, part)) is not None}

    def needed(self) -> tuple[str, ...]:
        """Return the parts that must have a column for this format and kind."""
        if self.format == "text":
            return ("text",)
        answers = ("chosen", "rejected") if self.kind == "preference" else ("answer",)
        if self.format in ("sharegpt", "messages"):
            return answers if self.kind == "preference" else ("messages",)
        return ("prompt", *answers)

    def fit(self, columns: Sequence[str], listed: str) -> None:
        """Check the mapping against a file's columns; `listed` is how the sentence shows them.

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


def read_mapping_words(words: Sequence[str]) -> Mapping:
    """Return the mapping given by words such as `prompt=question`, each a part and its column.

    Raises UserError for a word of another form, for a part given twice, and for an unknown part.
    """
    raw: dict[str, str] = {}
    for word in words:
        part, equals, column = word.partition("=")
        if not part or not equals or not column:
            raise UserError("data.mapping_word", value=word[:80])
        if part in raw:
            raise UserError("data.mapping_twice", part=part[:40], column=column[:80])
        raw[part] = column
    try:
        return Mapping.model_validate(raw)
    except ValidationError as error:
        raise refusal(error, Mapping, "data.mapping_problem") from None
