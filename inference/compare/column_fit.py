"""Whether columns fit the model they run on, and which ids they start with there: known once it is loaded."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.words import say
from inference.engine.detokenize import UNFINISHED, Pieces
from inference.strategies.knobs import texts_of_ids
from inference.strategies.table import ColumnSpec

if TYPE_CHECKING:
    from inference.models.loading import Loaded


def check_column(spec: ColumnSpec, loaded: "Loaded", tuned: bool, max_new_tokens: int) -> None:
    """Raise UserError if a column cannot run on its model. `tuned`: it runs with an adapter that can be switched off
    row by row."""
    if spec.kind == "contrast" and not tuned:
        raise UserError("decode.contrast_model", value=spec.name)
    start = spec.start
    if len(start) >= max_new_tokens:
        raise UserError("decode.start_long", value=spec.name[:80], count=len(start), most=max_new_tokens)
    size = loaded.model.config.get_text_config().vocab_size
    for token in start:
        if token >= size:
            raise UserError("decode.start_ids", value=spec.name[:80], token=token, size=size, last=size - 1)


def with_start_ids(spec: ColumnSpec, tokenizer: Any, size: int) -> ColumnSpec:
    """Return the column with ids of this tokenizer, of `size` tokens, in its `start`.

    Ids that here form the text that they had in their own tokenizer stay; otherwise that text is tokenized again, or
    omitted if it ends within a character, and a note says so. If `start` does not include its text, the ids stay as
    they are.
    """
    texts = texts_of_ids(str(spec.knobs.get("start", "")))
    if texts is None or _text_of(tokenizer, spec.start, size) == texts[0]:
        return spec
    text = texts[1]
    ids = [] if UNFINISHED in text else tokenizer(text, add_special_tokens=False)["input_ids"]
    rest = {name: value for name, value in spec.knobs.items() if name != "start"}
    if not ids:
        return replace(spec, knobs=rest, notes=(*spec.notes, say("decode.start_left_out")))
    note = say("decode.start_anew", count=len(ids))
    return replace(spec, knobs={**rest, "start": ",".join(map(str, ids))}, notes=(*spec.notes, note))


def _text_of(tokenizer: Any, ids: list[int], size: int) -> str | None:
    if any(token >= size for token in ids):
        return None
    text = Pieces(tokenizer).text
    return "".join(map(text, ids))
