"""Whether the fields of a request are of the types they are said to be: a program may send anything."""

import json
from typing import TYPE_CHECKING

from core.errors import UserError

if TYPE_CHECKING:
    from inference.compare.service import CompareRequest

EXAMPLES = {
    "prompt": "What is tea?",
    "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "adapter": "name/adapter",
    "dtype": "float32",
}
"""The fields that hold a text, with a text that each could hold."""
MAY_BE_LEFT_OUT = ("prompt", "adapter", "dtype")
SWITCHES = ("raw", "exact")


def check_fields(request: "CompareRequest") -> None:
    """Raises UserError that names the first field of another type than its own, its value, and what it takes."""
    for field, example in EXAMPLES.items():
        value = getattr(request, field)
        if not isinstance(value, str) and not (value is None and field in MAY_BE_LEFT_OUT):
            raise UserError("decode.not_text", field=field, value=shown(value), example=example)
    if not isinstance(request.columns, list) or not all(isinstance(line, str) for line in request.columns):
        raise UserError("decode.not_lines", value=shown(request.columns))
    for field in SWITCHES:
        if not isinstance(getattr(request, field), bool):
            raise UserError("decode.not_switch", field=field, value=shown(getattr(request, field)))


def check_whole(field: str, value: object, minimum: int, maximum: int) -> None:
    """Raises UserError unless the value is an integer within its bounds; true, 2.0 and "2" are none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError("decode.not_whole", field=field, value=shown(value), minimum=minimum, maximum=maximum)
    if not minimum <= value <= maximum:
        raise UserError(f"decode.{field}_range", value=shown(value), maximum=maximum)


def shown(value: object) -> str:
    """A value as JSON, in short."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."
