"""What a card says of a run's evaluation: figures and verdicts, never a row."""

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
class Figure:
    """One line of the card's table: a measure of a model, or of both, on a set of rows."""

    rows: str
    measure: str
    model: str
    value: str


@dataclass(frozen=True)
class Counted:
    """How many rows of a set were measured of those there are, and what became of the others."""

    rows: str
    available: int
    measured: int
    tokens: int
    dropped: int
    cut: int


@dataclass(frozen=True)
class BeforeAfter:
    """A run's evaluation, for its card. `ngrams` are how the baselines were counted."""

    sentences: Sequence[str]
    figures: list[Figure]
    counts: list[Counted]
    ngrams: list[dict[str, Any]]
    dtype: str
    device: str
    date: str
    report: EvaluationReport


def before_after_of(run: Run) -> BeforeAfter | None:
    """The evaluation of the very weights that the run holds; None where there is none, or it cannot be read."""
    try:
        report = load(run)
    except UserError as error:
        logs.event("damaged_evaluation", logging.WARNING, id=run.id, kind=error.code)
        return None
    if report is None or not fits(run, report):
        return None
    sets = report["sets"]
    figures = [figure for one in sets for figure in _figures(one)]
    ngrams = [one["ngram"] for one in sets if one["ngram"]]
    counts = [
        Counted(_named(one), *(one[name] for name in ("rows", "measured", "tokens", "dropped", "cut"))) for one in sets
    ]
    sentences = [sentence for _, sentence in judged(report)]
    where = report["dtype"], report["device"], report["created"][:10]
    return BeforeAfter(sentences, figures, counts, ngrams, *where, report)


def _named(one: RowSetReport) -> str:
    """A set as a card names it: of a person's dataset the name, without folders."""
    if one["key"] == "held_out":
        return f"held-out rows, stage {one['stage']} ({one['objective']})" if one["stage"] else "held-out rows"
    return "general text" if one["name"] is None else f"general text: {Path(one['name']).name}"


def _figures(one: RowSetReport) -> list[Figure]:
    rows, loss, ngram, found = _named(one), loss_of(one), one["ngram"], []
    for line in lines_of(one):
        measure = say(f"evaluate.measure.{line.key}")
        told = ((_BASE, line.base, ""), (_RESULT, line.tuned, ""), (_DIFFERENCE, line.difference, "+"))
        found += [Figure(rows, measure, model, interval(value, sign=sign)) for model, value, sign in told]
    if ngram:
        counted = Estimate.from_json(ngram["loss"])
        found.append(Figure(rows, say("evaluate.measure.loss"), f"{ngram['order']}-gram model", interval(counted)))
    for model, value in ((_BASE, loss.base), (_RESULT, loss.tuned)):
        found.append(Figure(rows, say("evaluate.measure.perplexity"), model, interval(perplexity(value))))
    return found


def results_of(found: BeforeAfter) -> "list[EvalResult]":
    """The result's loss and perplexity on each set, as `model-index` keeps them."""
    return [result for one in found.report["sets"] for result in _results(one)]


def _results(one: RowSetReport) -> "list[EvalResult]":
    from huggingface_hub import EvalResult

    held, loss = one["key"] == "held_out", loss_of(one).tuned
    others = "general text of Tunescope" if one["name"] is None else "general text chosen by the trainer"
    where = f" (stage {one['stage']}, {one['objective']})" if one["stage"] else ""
    name = f"held-out rows of the run{where}" if held else others
    values = {line.key: line.tuned.mean for line in lines_of(one)} | {"perplexity": perplexity(loss).mean}
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
