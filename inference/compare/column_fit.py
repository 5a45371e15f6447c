"""Whether columns fit the model they are to run on: what can only be known once it is there."""

from typing import TYPE_CHECKING

from core.errors import UserError
from inference.strategies.table import ColumnSpec

if TYPE_CHECKING:
    from inference.models.loading import Loaded


def check_column(spec: ColumnSpec, loaded: "Loaded", tuned: bool, max_new_tokens: int) -> None:
    """Raises UserError where a column cannot run on its model. `tuned`: it runs with an adapter that can be taken off
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
