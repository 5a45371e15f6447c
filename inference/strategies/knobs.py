"""The settings ("knobs") of a column: name, type, default and bounds, and how text becomes a value."""

import json
import math
from dataclasses import dataclass
from typing import Literal

from core.errors import UserError

Value = int | float | bool | str
MAX_TEXT = 2000
MAX_PIECES = 64
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", "|": "|"}


@dataclass(frozen=True)
class Knob:
    """One setting of a column. `choices` replaces the bounds if the value is one of a few words.

    `default` is what a strategy with this knob as its own sets; for the other knobs that a column can take, the default
    changes nothing. "texts" are pieces separated by `|`, with `\\n` and `\\t` for line break and tab; "ids" are token
    ids separated by commas and, after a colon, their text, in one piece or two (see `texts_of_ids`). An empty default
    of a number means: not set.

    `neutral` is the value at which it changes nothing, whatever the strategy's default is; None if it has an effect as
    soon as it is set. `generate_name` is what `generate` calls it, empty if `generate` lacks it. A knob that
    `belongs_to` another has no effect without that one.
    """

    name: str
    type: Literal["int", "float", "choice", "texts", "ids"]
    default: Value
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()
    neutral: Value | None = None
    generate_name: str = ""
    belongs_to: str = ""

    @property
    def help_key(self) -> str:
        return f"decode.knob.{self.name}"

    def read(self, strategy: str, text: str) -> Value:
        """Return the value of `text`. Raises UserError that names the knob, the value and what is possible."""
        if self.type == "choice":
            return self._choice(strategy, text)
        if self.type in ("texts", "ids"):
            return self._list(strategy, text)
        try:
            value = int(text) if self.type == "int" else float(text)
        except ValueError:
            code = "decode.knob_not_a_whole_number" if self.type == "int" else "decode.knob_not_a_number"
            raise UserError(code, **self._facts(strategy, text)) from None
        if not math.isfinite(value) or not self.minimum <= value <= self.maximum:
            raise UserError("decode.knob_range", **self._facts(strategy, text))
        return value

    def _choice(self, strategy: str, text: str) -> Value:
        if text.lower() not in self.choices:
            raise UserError("decode.knob_choice", **self._facts(strategy, text))
        return {"true": True, "false": False}.get(text.lower(), text.lower())

    def _list(self, strategy: str, text: str) -> Value:
        pieces = pieces_of(text) if self.type == "texts" else text.partition(":")[0].split(",")
        if self.type == "ids" and not all(piece.isascii() and piece.isdigit() for piece in pieces):
            raise UserError("decode.knob_ids", **self._facts(strategy, text))
        if len(text) > MAX_TEXT * (1 if self.type == "texts" else 32) or len(pieces) > self._most():
            raise UserError("decode.knob_long", most=self._most(), **self._facts(strategy, text))
        if not all(pieces):
            raise UserError("decode.knob_empty_piece", **self._facts(strategy, text))
        return text

    def _most(self) -> int:
        return MAX_PIECES if self.type == "texts" else 8192

    def _facts(self, strategy: str, text: str) -> dict[str, object]:
        facts = {"strategy": strategy, "knob": self.name, "value": text[:40], "choices": ", ".join(self.choices)}
        return facts | {"minimum": f"{self.minimum:g}", "maximum": f"{self.maximum:g}", "default": self.default}


def pieces_of(text: str) -> list[str]:
    """Return the pieces of a "texts" value: `\\n\\n|###` becomes two line breaks, and three hashes."""
    pieces, piece, escaped = [], "", False
    for char in text:
        if escaped:
            piece += _ESCAPES.get(char, "\\" + char)
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == "|":
            pieces.append(piece)
            piece = ""
        else:
            piece += char
    return [*pieces, piece + ("\\" if escaped else "")]


def ids_of(text: str) -> list[int]:
    """Return the token ids of an "ids" value."""
    ids = text.partition(":")[0]
    return [int(piece) for piece in ids.split(",")] if ids else []


def texts_of_ids(text: str) -> tuple[str, str] | None:
    """Return the text of an "ids" value under the tokenizer that the ids come from: the texts of the single ids joined,
    and the text to tokenize again if that is another piece (a character may be spread over several ids); None if it is
    not given."""
    _, colon, said = text.partition(":")
    pieces = pieces_of(said)
    return (pieces[0], pieces[-1]) if colon else None


def check_whole(field: str, value: object, minimum: int, maximum: int) -> None:
    """Raise UserError unless the value is an integer within its bounds; true, 2.0 and "2" are not."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError("decode.not_whole", field=field, value=shown(value), minimum=minimum, maximum=maximum)
    if not minimum <= value <= maximum:
        raise UserError(f"decode.{field}_range", value=shown(value), maximum=maximum)


def shown(value: object) -> str:
    """Return a value as short JSON."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."
