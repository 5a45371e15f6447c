"""Texts of a comparison for the card: those generated with the weights of a run, and by its base model."""

from collections.abc import Sequence
from typing import Any

from core.errors import UserError
from core.words import is_utf8
from finetune.publish.card.facts import Sample, check_done
from finetune.runs.run import Run
from inference.compare.record_outputs import RecordedOutput, recorded_outputs
from inference.compare.request import CompareRequest
from inference.models.fingerprint import file_fingerprint, fingerprint
from inference.models.hub_files import ADAPTER_WEIGHTS
from inference.strategies.syntax import join_line, split_line
from inference.strategies.table import STRATEGIES

_WHOLE = ("eos", "length", "stop")
"""The finish reasons of a column that is complete."""


def samples_of(record: dict[str, Any], run: Run, what: str) -> tuple[Sample, ...]:
    """Return the texts of a record (`inference.compare.record`) that the card of a finished run may show: those of its
    result, then those of its base model, identified by the fingerprints of the weights. One per column, so twelve at
    most.

    `what` names the record in an error. Raises UserError for what is no record, and for one in which the run's result
    generated nothing.
    """
    request, columns = recorded_outputs(record)
    check_done(run)
    base, adapter = _result(run)
    mine = [column for column in columns if column.adapter == adapter and base in (None, column.base)]
    trained_on = run.environment().get("fingerprint")
    others = [column for column in columns if column not in mine]
    bare = [column for column in others if column.adapter is None and column.base == trained_on]
    facts = {"value": what, "run": run.id}
    if not mine and bare:
        raise UserError("publish.samples_base", **facts)
    if not mine:
        raise UserError("publish.samples_other", **facts, model=(request.adapter or request.model)[:80])
    kept = [column for column in mine if _is_whole(column)]
    if not kept:
        raise UserError("publish.samples_unwritten", **facts)
    prompt = _prompt(request)
    beside = [column for column in bare if _is_whole(column)]
    return (*_shown(prompt, kept, base=False), *_shown(prompt, beside, base=True))


def _result(run: Run) -> tuple[str | None, str | None]:
    """Return the fingerprints of a run's result: of its base model (None where it was not recorded) and its adapter, or
    of the full model and None."""
    if (run.model / "adapter_config.json").is_file():
        return run.environment().get("fingerprint"), file_fingerprint(run.model / ADAPTER_WEIGHTS)
    return fingerprint(run.model), None


def _is_whole(column: RecordedOutput) -> bool:
    return column.finish in _WHOLE and bool(column.text.strip()) and is_utf8(column.text)


def _shown(prompt: str, columns: Sequence[RecordedOutput], *, base: bool) -> list[Sample]:
    return [Sample(prompt, column.text, _line(column), base) for column in columns]


def _line(column: RecordedOutput) -> str:
    """Return the column's line with all knobs of its strategy, since readers do not know the defaults, and without its
    model, which may be a folder of somebody's machine."""
    typed = dict(word.split("=", 1) for word in split_line(column.spec.name)[1:])
    typed.pop("model", None)
    own = {knob.name: str(knob.default).lower() for knob in STRATEGIES[column.spec.strategy].knobs}
    return join_line(column.spec.strategy, (own | typed).items())


def _prompt(request: CompareRequest) -> str:
    """Return the prompt; of a conversation all turns, each with its role."""
    if request.prompt is not None:
        return request.prompt
    turns = request.messages or []
    return (
        turns[0]["content"] if len(turns) == 1 else "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
    )
