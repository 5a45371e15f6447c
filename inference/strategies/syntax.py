"""Splits and joins a column's line: words separated by spaces, `nucleus top_p=0.9 stop="the end"`.

Double quotes hold a value together. In them a backslash before a double quote makes it a part of the value; every other
backslash stays as it is, for the value to read.
"""

from collections.abc import Iterable

from core.errors import UserError

WHITE = " \t\r\n"


def split_line(text: str) -> list[str]:
    """Return the words of a line. Raises UserError for a double quote that is never closed."""
    words: list[str] = []
    word: str | None = None
    quoted = escaped = False
    for char in text:
        if escaped:
            word, escaped = (word or "") + (char if char == '"' else "\\" + char), False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted, word = not quoted, word or ""
        elif char in WHITE and not quoted:
            words += [] if word is None else [word]
            word = None
        else:
            word = (word or "") + char
    if quoted:
        raise UserError("decode.column_quote", value=text[:80])
    return words if word is None else [*words, word]


def join_line(strategy: str, pairs: Iterable[tuple[str, object]]) -> str:
    """Return the line of a strategy with its settings, which `split_line` can split again."""
    return " ".join([strategy, *(f"{name}={quoted(str(value))}" for name, value in pairs)])


def quoted(value: str) -> str:
    """Return `value`, in double quotes if it needs them.

    A backslash that would escape the double quote behind it is doubled, which the pieces of a text read as one.
    """
    if value and not set(value) & set(WHITE + '"'):
        return value
    made, position = "", 0
    while position < len(value):
        char, after = value[position], value[position + 1 : position + 2]
        if char == "\\" and after not in ("", '"'):
            made, position = made + char + after, position + 2
        else:
            made, position = made + ("\\" + char if char in '\\"' else char), position + 1
    return f'"{made}"'
