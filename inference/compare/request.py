"""The request for a comparison. A program may send anything: each field is checked for its type and bounds."""

from dataclasses import dataclass

from core.errors import UserError
from inference.engine.prompts import Messages, check_messages, check_text
from inference.strategies.knobs import shown
from inference.strategies.table import ColumnSpec, check_run, parse_columns

EXAMPLES = {
    "prompt": "What is tea?",
    "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "adapter": "name/adapter",
    "dtype": "float32",
}
"""The text fields, each with an example."""
MAY_BE_LEFT_OUT = ("prompt", "adapter", "dtype")
SWITCHES = ("raw", "exact")


@dataclass(frozen=True)
class CompareRequest:
    """The fields of a comparison. Either `prompt` or `messages`; `adapter` goes on `model`; `dtype` None is what suits
    the device (float32 on a CPU). `columns` are lines such as "nucleus top_p=0.9 model=base". `exact` computes each
    column in the shapes of `generate`, on plain layers."""

    model: str
    columns: list[str]
    prompt: str | None = None
    messages: Messages | None = None
    adapter: str | None = None
    seed: int = 0
    max_new_tokens: int = 100
    dtype: str | None = None
    raw: bool = False
    exact: bool = False


def check_request(request: CompareRequest) -> list[ColumnSpec]:
    """Return the columns of a request. Raises UserError for everything that can be found wrong before a model is
    loaded."""
    check_fields(request)
    specs = parse_columns(request.columns)
    check_run(request.seed, request.max_new_tokens)
    if (request.prompt is None) == (request.messages is None):
        raise UserError("decode.prompt_or_messages")
    if request.prompt is not None:
        check_text(request.prompt)
    elif request.raw:
        raise UserError("decode.raw_messages")
    else:
        check_messages(request.messages)
    return specs


def check_fields(request: CompareRequest) -> None:
    """Raise UserError that names the first field of a wrong type, its value, and what it takes."""
    for field, example in EXAMPLES.items():
        value = getattr(request, field)
        if not isinstance(value, str) and not (value is None and field in MAY_BE_LEFT_OUT):
            raise UserError("decode.not_text", field=field, value=shown(value), example=example)
    if not isinstance(request.columns, list) or not all(isinstance(line, str) for line in request.columns):
        raise UserError("decode.not_lines", value=shown(request.columns))
    for field in SWITCHES:
        if not isinstance(getattr(request, field), bool):
            raise UserError("decode.not_switch", field=field, value=shown(getattr(request, field)))
