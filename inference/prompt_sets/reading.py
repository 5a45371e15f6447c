"""Many prompts from a file or from a dataset's rows. An error in one of them is reported for that one alone."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.rows import ChatRow, LabelledRow, Message, PairRow, Row, TaggedRow, TextRow
from inference.engine.prompts import Messages

MOST_PROMPTS = 200
SUFFIXES = (".txt", ".json", ".jsonl")
_LARGEST = 16 * 10**6
_BEGINNING = 200


@dataclass(frozen=True)
class PromptItem:
    """One prompt of a set: its number in its file (1-based), and the text, the conversation, or the error."""

    number: int
    prompt: str | Messages = ""
    problem: UserError | None = None

    @property
    def shown(self) -> str:
        """The question as one text, for people."""
        return self.prompt if isinstance(self.prompt, str) else str(self.prompt[-1].get("content", ""))


def read_prompts(path: Path, first: int | None = None) -> list[PromptItem]:
    """Return the prompts in a file: .txt with one per line; .json or .jsonl of texts, conversations, {prompt},
    {messages} or {instruction, input}.

    Only the `first` prompts if that is set. Raises UserError for a file that cannot be read, is empty or has too many.
    """
    suffix, name = path.suffix.lower(), path.name[:80]
    if suffix not in SUFFIXES:
        raise UserError("sets.file_kind", value=name, known=", ".join(SUFFIXES))
    text = _text(path, name)
    if suffix == ".txt":
        items = [PromptItem(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    elif suffix == ".jsonl":
        lines = enumerate(text.split("\n"), 1)
        items = [_of_line(number, line) for number, line in lines if line.strip()]
    else:
        items = [_of_json(number, value) for number, value in enumerate(_list(text, name), 1)]
    return bounded(items, name, first)


def bounded(items: list[PromptItem], name: str, first: int | None) -> list[PromptItem]:
    """Return the `first` prompts, all if it is None. Raises UserError if there are none or more than a set may have."""
    if first is not None and not 1 <= first <= MOST_PROMPTS:
        raise UserError("sets.first", value=first, most=MOST_PROMPTS)
    items = items[:first]
    if not items:
        raise UserError("sets.no_prompt", value=name)
    if len(items) > MOST_PROMPTS:
        raise UserError("sets.too_many", value=name, count=len(items), most=MOST_PROMPTS)
    return items


def of_rows(rows: Iterable[Row], name: str, first: int | None = None) -> list[PromptItem]:
    """Return the questions of a dataset's rows, without their answers; of a plain text its first 200 characters."""
    return bounded([_of_row(number, row) for number, row in enumerate(rows, 1)], name, first)


def _text(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise UserError("sets.file_large", value=name, most=_LARGEST // 10**6)
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise UserError("sets.file", value=name, reason=error.strerror or type(error).__name__) from None
    except UnicodeDecodeError:
        raise UserError("sets.file_text", value=name) from None


def _list(text: str, name: str) -> list[Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError("sets.file_json", value=name, reason=str(error)[:120]) from None
    if not isinstance(value, list):
        raise UserError("sets.file_list", value=name)
    return value


def _of_line(number: int, line: str) -> PromptItem:
    try:
        return _of_json(number, json.loads(line))
    except (ValueError, RecursionError) as error:
        return PromptItem(number, problem=UserError("sets.line_json", reason=str(error)[:120]))


def _of_json(number: int, value: Any) -> PromptItem:
    """Return the prompt in a JSON value, by its form; the answers at the end of a conversation are removed."""
    found: Any = value
    if isinstance(value, dict) and "messages" in value:
        found = value["messages"]
    elif isinstance(value, dict) and "prompt" in value:
        found = value["prompt"]
    elif isinstance(value, dict) and isinstance(value.get("instruction"), str):
        found = "\n".join(part for part in (value["instruction"], value.get("input")) if isinstance(part, str) and part)
    if isinstance(found, str):
        return PromptItem(number, found)
    if isinstance(found, list) and found and all(isinstance(turn, dict) for turn in found):
        return _of_turns(number, found)
    return PromptItem(number, problem=UserError("sets.form", value=json.dumps(value, ensure_ascii=False)[:60]))


def _of_row(number: int, row: Row) -> PromptItem:
    if isinstance(row, ChatRow):
        return _of_turns(number, _turns(row.messages))
    if isinstance(row, TextRow):
        return PromptItem(number, row.text[:_BEGINNING])
    if isinstance(row, PairRow):
        return PromptItem(number, row.source)
    if isinstance(row, LabelledRow):
        return PromptItem(number, row.text)
    if isinstance(row, TaggedRow):
        return PromptItem(number, " ".join(row.tokens))
    return _of_turns(number, _turns(row.prompt))


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _of_turns(number: int, turns: list[dict[str, Any]]) -> PromptItem:
    """Return the conversation up to the question to be answered."""
    while turns and turns[-1].get("role") == "assistant":
        turns = turns[:-1]
    return PromptItem(number, turns) if turns else PromptItem(number, problem=UserError("decode.prompt_empty"))
