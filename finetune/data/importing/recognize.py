"""Recognizes the format of a file's rows from the first rows, with the evidence.

Each row votes by its columns; the format with the most votes is used, and the user may correct it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.words import counted, say
from finetune.config.mapping import Kind, Mapping, RowFormat
from finetune.data.importing.convert import turn_keys
from finetune.data.importing.raw_rows import file_format, has_blank_lines, raw_rows
from finetune.data.importing.streams import DataFile, inspect_file, short_name
from finetune.data.limits import LIMITS, ImportLimits

SAMPLE = 200
_PROMPTS = ("prompt", "question", "query", "problem", "user", "human", "input")
_ANSWERS = ("completion", "response", "answer", "output", "solution", "assistant", "reply")
_ALPACA_ANSWERS = ("output", "response", "answer", "completion")
_PAIRS = (("source", "target"), ("src", "tgt"))
_TEXTS = ("text", "content", "document", "body", "article")
_OPTIONAL: dict[str, tuple[str, ...]] = {
    "input": ("input", "context"),
    "system": ("system", "system_prompt"),
    "history": ("history",),
    "tools": ("tools", "functions"),
}
_TAKES = {
    "alpaca": ("input", "system", "history"),
    "prompt_completion": ("system", "history"),
    "sharegpt": ("system", "tools"),
    "messages": ("system", "tools"),
    "text": (),
}


@dataclass(frozen=True)
class Recognized:
    """The recognized format of a file. `row_format`, `kind` and `mapping` are None where its columns match no known
    format: the user then says which column is which.

    `file_format` is json, jsonl, csv, tsv, parquet or txt (".gz" appended where compressed); `evidence` are sentences;
    `columns` the names of all columns found.
    """

    file_format: str
    row_format: RowFormat | None
    kind: Kind | None
    mapping: Mapping | None
    evidence: list[str]
    columns: list[str]


def recognize(path: Path, limits: ImportLimits = LIMITS, name: str | None = None) -> Recognized:
    """Recognize a file by its first rows (`SAMPLE` of them that can be read).

    Raises UserError for a file that cannot be read at all.
    """
    return recognize_file(inspect_file(path, limits, name), limits)


def recognize_file(file: DataFile, limits: ImportLimits = LIMITS) -> Recognized:
    """Recognize a file that `inspect_file` has opened."""
    sample = _sample(file, limits)
    columns = list(dict.fromkeys(column for row in sample for column in row))
    votes = Counter(vote for row in sample if (vote := _vote(row)) is not None)
    inside = file_format(file, limits)
    about_file = _about_file(file, inside, limits)
    if not votes:
        return Recognized(inside, None, None, None, [*about_file, _unknown(columns)], columns)
    winner, count = votes.most_common(1)[0]
    mapping = _with_optional(winner, columns)
    evidence = [*about_file, *_about_rows(mapping, count, sample, columns)]
    return Recognized(inside, mapping.format, mapping.kind, mapping, evidence, columns)


def _sample(file: DataFile, limits: ImportLimits) -> list[dict[str, Any]]:
    """Return the first rows that can be read. Raises UserError where there are no rows, or none of them can be read."""
    met = 0

    def readable() -> Iterator[dict[str, Any]]:
        nonlocal met
        for row in raw_rows(file, limits):
            met += 1
            if row is not None:
                yield row

    sample = list(islice(readable(), SAMPLE))
    if not sample:
        raise UserError(
            "data.nothing_readable" if met else "data.empty", name=file.name, rows=counted("core.rows", met)
        )
    return sample


def _vote(row: dict[str, Any]) -> Mapping | None:
    """Return the format of one row, with the columns it must have, or None."""
    names = {column.strip().lower(): column for column in reversed(row)}
    if "chosen" in names and "rejected" in names:
        return _preference(row, names)
    for column, value in row.items():
        if keys := turn_keys(value):
            if _first(names, ("prompt",)) == column and _first(names, _ANSWERS):
                break
            return Mapping(format=_style(keys), messages=column)
    return _by_name(names)


def _style(keys: tuple[str, str]) -> RowFormat:
    return "sharegpt" if keys[0] == "from" else "messages"


def _by_name(names: dict[str, str]) -> Mapping | None:
    instruction, answer = names.get("instruction"), _first(names, _ALPACA_ANSWERS)
    if instruction and answer:
        return Mapping(format="alpaca", prompt=instruction, answer=answer)
    for source, target in _PAIRS:
        if source in names and target in names:
            return Mapping(format="prompt_completion", kind="pair", prompt=names[source], answer=names[target])
    prompt, answer = _first(names, _PROMPTS), _first(names, _ANSWERS)
    if prompt and answer:
        return Mapping(format="prompt_completion", prompt=prompt, answer=answer)
    text = _first(names, _TEXTS) or (next(iter(names.values())) if len(names) == 1 else None)
    return Mapping(format="text", kind="text", text=text) if text else None


def _preference(row: dict[str, Any], names: dict[str, str]) -> Mapping | None:
    chosen, rejected = names["chosen"], names["rejected"]
    answers = Mapping(format="messages", kind="preference", chosen=chosen, rejected=rejected)
    for column, value in row.items():
        if column not in (chosen, rejected) and (keys := turn_keys(value)):
            return answers.model_copy(update={"format": _style(keys), "messages": column})
    if "instruction" in names:
        return answers.model_copy(update={"format": "alpaca", "prompt": names["instruction"]})
    if prompt := _first(names, _PROMPTS):
        return answers.model_copy(update={"format": "prompt_completion", "prompt": prompt})
    keys = turn_keys(row[chosen])
    return answers.model_copy(update={"format": _style(keys)}) if keys else None


def _first(names: dict[str, str], wanted: tuple[str, ...]) -> str | None:
    return next((names[name] for name in wanted if name in names), None)


def _with_optional(mapping: Mapping, columns: list[str]) -> Mapping:
    """Return the mapping with the optional columns that any row has."""
    names = {column.strip().lower(): column for column in reversed(columns)}
    taken = set(mapping.columns().values())
    optional = {part: _first(names, _OPTIONAL[part]) for part in _TAKES[mapping.format]}
    return mapping.model_copy(update={part: column for part, column in optional.items() if column not in taken})


def _about_file(file: DataFile, inside: str, limits: ImportLimits) -> list[str]:
    plain = inside.removesuffix(".gz")
    sentences = []
    if plain != file.named:
        sentences.append(say("data.evidence.inside", named=f".{file.named}", inside=say(f"data.file.{plain}")))
    if plain == "txt":
        blank = has_blank_lines(file, limits)
        sentences.append(say("data.evidence.paragraphs" if blank else "data.evidence.lines"))
    return sentences


def _about_rows(mapping: Mapping, count: int, sample: list[dict[str, Any]], columns: list[str]) -> list[str]:
    used = mapping.columns()
    shown = ", ".join(f'"{short_name(column)}"' for column in used.values())
    title = say(f"data.format.{mapping.format}")
    sentences = [say("data.evidence.columns", count=count, total=len(sample), columns=shown, format=title)]
    turns = mapping.messages or (mapping.chosen if not mapping.prompt else None)
    if turns:
        sentences += _about_turns(turns, sample)
    if mapping.kind in ("preference", "pair"):
        sentences.append(say(f"data.evidence.{mapping.kind}"))
    unused = [column for column in columns if column not in used.values()]
    if unused:
        sentences.append(say("data.evidence.unused", columns=listed(unused)))
    return sentences


def _about_turns(column: str, sample: list[dict[str, Any]]) -> list[str]:
    lists = [row[column] for row in sample if isinstance(row.get(column), list)]
    turns = [turn for inner in lists for turn in inner if isinstance(turn, dict)]
    keys = next((keys for inner in lists if (keys := turn_keys(inner))), None)
    if keys is None:
        return []
    roles = Counter(str(turn.get(keys[0])) for turn in turns)
    shown = ", ".join(short_name(role, 20) for role, _ in roles.most_common(6))
    return [say("data.evidence.turns", column=short_name(column), keys="/".join(keys), roles=shown)]


def _unknown(columns: list[str]) -> str:
    return say("data.evidence.unknown", columns=listed(columns))


def listed(columns: list[str], most: int = 12) -> str:
    """Return column names for people."""
    shown = ", ".join(f'"{short_name(column, 40)}"' for column in columns[:most])
    return shown + (", …" if len(columns) > most else "")
