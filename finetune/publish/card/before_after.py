"""A run's evaluation for its card: figures and verdicts, never a row."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import logs
from core.errors import UserError
from core.words import say
from finetune.evaluation.report import (
    EvaluationReport,
    RowSetReport,
    fits,
    interval,
    judged,
    lines_of,
    load,
    loss_of,
    perplexity,
)
from finetune.runs.run import Run
from inference.measures.bootstrap import Estimate

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_RESULT, _BASE, _DIFFERENCE = "this model", "base model", "difference"


@dataclass(frozen=True)
class MeasureRow:
    """One line of the card's table: a measure of a model, or of both, on a row set."""

    rows: str
    measure: str
    model: str
    value: str


@dataclass(frozen=True)
class RowCounts:
    """How many rows of a set were measured of those available, and how many were skipped or truncated."""

    rows: str
    available: int
    measured: int
    tokens: int
    dropped: int
    cut: int


@dataclass(frozen=True)
class BeforeAfter:
    """A run's evaluation, for its card. `ngrams` describes how the n-gram baselines were counted."""

    sentences: Sequence[str]
    figures: list[MeasureRow]
    counts: list[RowCounts]
    ngrams: list[dict[str, Any]]
    dtype: str
    device: str
    date: str
    report: EvaluationReport


def before_after_of(run: Run) -> BeforeAfter | None:
    """Return the evaluation of the weights that the run holds now; None where there is none, or it cannot be read."""
    try:
        report = load(run)
    except UserError as error:
        logs.event("damaged_evaluation", logging.WARNING, id=run.id, kind=error.code)
        return None
    if report is None or not fits(run, report):
        return None
    sets = report["sets"]
    figures = [figure for row_set in sets for figure in _figures(row_set)]
    ngrams = [row_set["ngram"] for row_set in sets if row_set["ngram"]]
    counts = [
        RowCounts(_row_set_name(row_set), *(row_set[name] for name in ("rows", "measured", "tokens", "dropped", "cut")))
        for row_set in sets
    ]
    sentences = [sentence for _, sentence in judged(report)]
    run_facts = report["dtype"], report["device"], report["created"][:10]
    return BeforeAfter(sentences, figures, counts, ngrams, *run_facts, report)


def _row_set_name(row_set: RowSetReport) -> str:
    """Return a row set's name in the card: of a person's dataset the file name, without folders."""
    if row_set["key"] == "held_out":
        return (
            f"held-out rows, stage {row_set['stage']} ({row_set['objective']})" if row_set["stage"] else "held-out rows"
        )
    return "general text" if row_set["name"] is None else f"general text: {Path(row_set['name']).name}"


def _figures(row_set: RowSetReport) -> list[MeasureRow]:
    rows, loss, ngram, found = _row_set_name(row_set), loss_of(row_set), row_set["ngram"], []
    for line in lines_of(row_set):
        measure = say(f"evaluate.measure.{line.key}")
        values = ((_BASE, line.base, ""), (_RESULT, line.tuned, ""), (_DIFFERENCE, line.difference, "+"))
        found += [MeasureRow(rows, measure, model, interval(value, sign=sign)) for model, value, sign in values]
    if ngram:
        counted = Estimate.from_json(ngram["loss"])
        found.append(MeasureRow(rows, say("evaluate.measure.loss"), f"{ngram['order']}-gram model", interval(counted)))
    for model, value in ((_BASE, loss.base), (_RESULT, loss.tuned)):
        found.append(MeasureRow(rows, say("evaluate.measure.perplexity"), model, interval(perplexity(value))))
    return found


def results_of(found: BeforeAfter) -> "list[EvalResult]":
    """Return the tuned model's loss and perplexity on each row set, in the form of `model-index`."""
    return [result for row_set in found.report["sets"] for result in _results(row_set)]


def _results(row_set: RowSetReport) -> "list[EvalResult]":
    from huggingface_hub import EvalResult

    held, loss = row_set["key"] == "held_out", loss_of(row_set).tuned
    others = "general text of Tunescope" if row_set["name"] is None else "general text chosen by the trainer"
    stage = f" (stage {row_set['stage']}, {row_set['objective']})" if row_set["stage"] else ""
    name = f"held-out rows of the run{stage}" if held else others
    values = {line.key: line.tuned.mean for line in lines_of(row_set)} | {"perplexity": perplexity(loss).mean}
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type="tunescope" if held else "tunescope-general",
            dataset_name=name,
            dataset_split="validation" if held else "test",
            metric_type=metric,
            metric_value=round(value, 4),
        )
        for metric, value in values.items()
        if math.isfinite(value)
    ]
