"""Rows from JSON: an array that is read as a stream, one object per line, or one object that holds all rows."""

import json
import re
from collections.abc import Iterator
from typing import Any, Literal, TextIO

from core.errors import UserError
from finetune.data.importing.streams import short_name
from finetune.data.limits import MIB, ImportLimits

Layout = Literal["array", "lines", "document"]
TURN_KEYS = ({"role", "content"}, {"from", "value"})
_CHUNK = 1 << 20
_LONGEST_MARK = 16
_SPACE = " \t\r\n"
_BLANK = _SPACE + "\ufeff"
_SPACES = re.compile(f"[{_SPACE}]+")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 100 else float(digits)


_DECODER = json.JSONDecoder(parse_int=_integer)


def parse(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError where it is invalid or nested too deeply for Python."""
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def layout(text: TextIO, named: str, limits: ImportLimits) -> Layout:
    """Return how the JSON in `text` is laid out, judged by its first two lines rather than by its name (`named`: json
    or jsonl)."""
    first, second = _first_lines(text, limits.row_characters)
    start = first[:1]
    complete = _is_value(first)
    if start == "[":
        return "lines" if complete and second != "" else "array"
    if not start:
        return "lines"
    if complete or _is_value(second):
        return "lines" if second != "" else "document"
    return "lines" if named == "jsonl" and not _goes_on(first) else "document"


def _first_lines(text: TextIO, most: int) -> tuple[str, str]:
    """Return the first two lines that are not blank, `most` characters of each."""
    first = rest = ""
    while len(rest) <= most and (chunk := text.read(_CHUNK)):
        rest = (rest + chunk).lstrip(_BLANK)
        if not first and "\n" in rest:
            first, _, rest = rest.partition("\n")
            rest = rest.lstrip(_BLANK)
        if first and "\n" in rest:
            break
    if not first:
        first, rest = rest, ""
    return first[:most].strip(_BLANK), rest.partition("\n")[0][:most].strip(_BLANK)


def _is_value(line: str) -> bool:
    try:
        return isinstance(parse(line), dict | list)
    except ValueError:
        return False


def _goes_on(line: str) -> bool:
    """Return whether a line is the beginning of a longer JSON value, rather than a broken one."""
    try:
        _DECODER.decode(line)
    except json.JSONDecodeError as error:
        return error.pos >= len(line)
    except (ValueError, RecursionError):
        pass
    return False


def lines(text: TextIO, limits: ImportLimits) -> Iterator[str | None]:
    """Yield the lines that are not blank, stripped; None for a line longer than the limit of a row."""
    most = limits.row_characters
    while line := text.readline(most + 1):
        if len(line) > most and not line.endswith("\n"):
            while len(rest := text.readline(_CHUNK)) == _CHUNK and not rest.endswith("\n"):
                pass
            yield None
        elif line := line.strip(_BLANK):
            yield line


def from_lines(text: TextIO, limits: ImportLimits) -> Iterator[Any]:
    """Yield one value per line; None for a line that is not JSON."""
    for line in lines(text, limits):
        try:
            yield None if line is None else parse(line)
        except ValueError:
            yield None


def from_array(text: TextIO, limits: ImportLimits, name: str) -> Iterator[Any]:
    """Yield the elements of a JSON array, one after another, in bounded memory.

    Raises UserError, with the row's number, where the JSON is broken.
    """
    window = _Window(text, limits, name)
    window.take("[")
    if window.peek() == "]":
        window.take("]")
    else:
        while True:
            yield window.value()
            if window.peek() == "]":
                break
            window.take(",")
        window.take("]")
    if window.peek():
        raise window.broken()


class _Window:
    """A window that moves along a long JSON text."""

    def __init__(self, text: TextIO, limits: ImportLimits, name: str) -> None:
        self._text, self._most, self._name = text, limits.row_characters, name
        self._buffer, self._position, self._ended, self._row = "", 0, False, 0

    def broken(self) -> UserError:
        code = "data.json_ends" if self._ended and self._position >= len(self._buffer) else "data.json_broken"
        return UserError(code, name=self._name, row=max(self._row, 1))

    def peek(self) -> str:
        """Return the next character that is not white space; empty at the end."""
        while True:
            while found := _SPACES.match(self._buffer, self._position):
                self._position = found.end()
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if self._ended:
                return ""
            self._more()

    def take(self, mark: str) -> None:
        if self.peek() != mark:
            raise self.broken()
        self._position += 1

    def value(self) -> Any:
        """Return the next complete value; None for a value longer than the limit of a row."""
        self._row += 1
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._position)
            except RecursionError as error:
                raise self.broken() from error
            except json.JSONDecodeError as error:
                self._need_more(error)
                continue
            if end < len(self._buffer) or self._ended:
                fits = end - self._position <= self._most
                self._position = end
                return value if fits else None
            self._more()

    def _need_more(self, error: json.JSONDecodeError) -> None:
        """Read on where the value only seems to break off because the window ends; otherwise raise UserError."""
        tail = len(self._buffer.rstrip()) if self._ended else len(self._buffer) - _LONGEST_MARK
        if error.pos < tail and not error.msg.startswith("Unterminated string"):
            raise UserError("data.json_broken", name=self._name, row=self._row) from error
        if self._ended:
            raise UserError("data.json_ends", name=self._name, row=self._row) from error
        if len(self._buffer) - self._position > 2 * max(self._most, _CHUNK):
            raise UserError("data.row_too_long", name=self._name, row=self._row, most=self._most) from error
        self._more()

    def _more(self) -> None:
        rest = self._buffer[self._position :]
        chunk = self._text.read(max(_CHUNK, len(rest)))
        self._buffer, self._position, self._ended = rest + chunk, 0, not chunk


def from_document(text: TextIO, limits: ImportLimits, name: str) -> list[Any]:
    """Return the rows of a JSON file that is one object: a list inside it, columns side by side, or a single row.

    Raises UserError for JSON that is broken, too large to be read whole, or has no rows.
    """
    content = text.read(limits.document_bytes + 1)
    if len(content) > limits.document_bytes:
        raise UserError("data.document_too_large", name=name, most=limits.document_bytes // MIB)
    try:
        value = parse(content)
    except ValueError as error:
        raise UserError("data.not_json", name=name, line=getattr(error, "lineno", 1)) from error
    if not isinstance(value, dict):
        raise UserError("data.no_rows_in_json", name=name)
    return _rows_of(value, name)


def _rows_of(value: dict[str, Any], name: str) -> list[Any]:
    tables = [key for key, inner in value.items() if _is_table(inner)]
    if len(tables) == 1:
        return value[tables[0]]
    if len(tables) > 1:
        raise UserError("data.several_tables", name=name, keys=short_name(", ".join(tables), 200))
    columns = _columns(value)
    if columns is not None:
        return columns
    if any(isinstance(inner, str) or _is_turns(inner) for inner in value.values()):
        return [value]
    raise UserError("data.no_rows_in_json", name=name)


def _is_turns(inner: Any) -> bool:
    return bool(
        isinstance(inner, list)
        and inner
        and all(isinstance(turn, dict) and any(keys <= turn.keys() for keys in TURN_KEYS) for turn in inner)
    )


def _is_table(inner: Any) -> bool:
    objects = isinstance(inner, list) and any(isinstance(row, dict) for row in inner)
    return objects and not _is_turns(inner)


def _columns(value: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return rows from columns of equal length: lists, or objects by row number as pandas writes them; None for other
    values."""
    columns = {key: _column(inner) for key, inner in value.items()}
    lists = [column for column in columns.values() if column is not None]
    if not lists or len(lists) < len(columns) or len({len(column) for column in lists}) != 1:
        return None
    if any(_is_turns(column) for column in lists):
        return None
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*lists, strict=True)]


def _column(inner: Any) -> list[Any] | None:
    if isinstance(inner, dict) and inner and all(key.isdigit() for key in inner):
        return list(inner.values())
    return inner if isinstance(inner, list) else None
