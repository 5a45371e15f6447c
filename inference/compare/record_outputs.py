"""What the columns of a comparison's record generated, and on which weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import UserError
from inference.compare.provenance import Entry, read_models
from inference.compare.record import request_of_record
from inference.compare.request import CompareRequest
from inference.strategies.table import ColumnSpec, parse_columns


@dataclass(frozen=True)
class RecordedOutput:
    """A column of a record: the weights it ran on, as fingerprints (`adapter` None: the bare base), and what it
    generated."""

    spec: ColumnSpec
    base: str
    adapter: str | None
    text: str
    finish: str


def recorded_outputs(record: dict[str, Any]) -> tuple[CompareRequest, list[RecordedOutput]]:
    """Return the request of a record, and what each column generated on which weights. Raises UserError if it is not a
    record, or one of an earlier version, which does not include the weights."""
    request = request_of_record(record)
    if "models" not in record:
        raise UserError("record.no_weights")
    models = read_models(record["models"])
    columns: Any = record.get("columns")
    specs = parse_columns(request.columns)
    try:
        outputs = [_recorded_output(spec, column, _runs_on(index, models))
                for index, (spec, column) in enumerate(zip(specs, columns, strict=True))]  # fmt: skip
    except (TypeError, KeyError, ValueError):
        raise UserError("record.columns") from None
    return request, outputs


def _runs_on(index: int, models: Sequence[Entry]) -> Entry:
    """Return the one model of a column. Raises ValueError if there is not exactly one."""
    (model,) = [model for model in models if index in model["columns"]]
    return model


def _recorded_output(spec: ColumnSpec, column: dict[str, Any], on: Entry) -> RecordedOutput:
    text, finish = column["text"], column["finish"]
    if not isinstance(text, str) or not isinstance(finish, str):
        raise TypeError("not a text")
    adapter = on.get("adapter")
    return RecordedOutput(spec, on["fingerprint"], adapter["fingerprint"] if adapter else None, text, finish)
