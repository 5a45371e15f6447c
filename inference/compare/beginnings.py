"""The tokens that a column was told to begin with, under the tokenizer of the model that it runs on."""

from dataclasses import replace
from typing import Any

from core.words import say
from inference.engine.detokenize import UNFINISHED, Pieces
from inference.strategies.knobs import said_by_ids
from inference.strategies.table import ColumnSpec


def begun(spec: ColumnSpec, tokenizer: Any, size: int) -> ColumnSpec:
    """The column with ids of this tokenizer, of `size` tokens, in its `start`.

    Ids that say here what they said where they come from stay; otherwise their text is cut anew, or left out where it
    ends within a character, and a note says so. Where `start` does not tell its text the ids stay as they are.
    """
    said = said_by_ids(str(spec.knobs.get("start", "")))
    if said is None or _says(tokenizer, spec.start, size) == said[0]:
        return spec
    text = said[1]
    ids = [] if UNFINISHED in text else tokenizer(text, add_special_tokens=False)["input_ids"]
    rest = {name: value for name, value in spec.knobs.items() if name != "start"}
    if not ids:
        return replace(spec, knobs=rest, notes=(*spec.notes, say("decode.start_left_out")))
    note = say("decode.start_anew", count=len(ids))
    return replace(spec, knobs={**rest, "start": ",".join(map(str, ids))}, notes=(*spec.notes, note))


def _says(tokenizer: Any, ids: list[int], size: int) -> str | None:
    if any(token >= size for token in ids):
        return None
    text = Pieces(tokenizer).text
    return "".join(map(text, ids))
