"""A run's evaluation as HTML: verdicts, a table with plotted intervals, answers side by side."""

import math
from dataclasses import dataclass
from typing import Any

from core.errors import UserError
from core.words import say
from core.workspace import Owner
from finetune.evaluation.report import (
    EvaluationReport,
    MeasureResult,
    RowSetReport,
    fits,
    interval,
    judged,
    lines_of,
    load,
    notes,
    perplexity,
    title,
)
from finetune.runs.run import find
from inference.measures.bootstrap import Estimate
from ui.compare.prompt_sets_view import ROW, WIDTH, Whisker, whiskers_of
from ui.parts.views import render

CSS_CLASSES = {"better": "ts-good", "worse": "ts-warn", "even": "", "few": ""}


@dataclass(frozen=True)
class Cell:
    """A figure as a person reads it, split into its mean and its interval."""

    mean: str
    interval: str


@dataclass(frozen=True)
class Row:
    """One measure of one set of rows. `clear`: the interval of the paired difference does not contain 0. The plot shows
    both models or, with a `reference`, their difference and the point of no difference."""

    title: str
    measure: str
    base: Cell
    tuned: Cell
    difference: Cell
    clear: bool
    ngram: Cell | None
    whiskers: list[Whisker]
    reference: float | None = None

    @property
    def height(self) -> int:
        """Of the drawing, in pixels."""
        return ROW * len(self.whiskers) + 4


def nothing_yet() -> str:
    """Return what the tab shows before there is a report."""
    return render("empty", title=say("evaluate.nothing"), text=say("evaluate.nothing_help"))


def shown(owner: Owner, chosen: str | None) -> str:
    """Return the report of one of the owner's runs, or the note that it has none."""
    if not chosen:
        return nothing_yet()
    run = find(chosen, owner)
    try:
        report = load(run)
    except UserError as error:
        return render("note", kind="ts-bad", title="", text=str(error))
    if report is None or not fits(run, report):
        return nothing_yet()
    verdicts = [(CSS_CLASSES[found], sentence) for found, sentence in judged(report)]
    facts = {"verdicts": verdicts, "rows": rows_of(report), "notes": notes(report), "facts": _facts(report)}
    return render("evaluation", report=report, width=WIDTH, **facts)


def _facts(report: EvaluationReport) -> str:
    base = report["base"]
    named = {name: report[name] for name in ("run", "dtype", "device")}
    when = report["created"][:16].replace("T", " ")
    return say("evaluate.facts", base=base["name"], fingerprint=base["fingerprint"][:12], created=when, **named)


def rows_of(report: EvaluationReport) -> list[Row]:
    """Return a row for each measure of each set, and one for the perplexity under each loss, whose paired difference is
    a factor."""
    found = []
    for row_set in report["sets"]:
        ngram = row_set["ngram"]
        for line in lines_of(row_set):
            found.append(_row(row_set, line, ngram if line.key == "loss" else None))
            if line.key == "loss":
                found.append(_perplexities(row_set, line, ngram))
    return found


def _row(row_set: RowSetReport, line: MeasureResult, ngram: dict[str, Any] | None) -> Row:
    counted = Estimate.from_json(ngram["loss"]) if ngram else None
    cells = _cell(line.base), _cell(line.tuned), _cell(line.difference, "+")
    drawn = whiskers_of([line.base, line.tuned])
    named = title(row_set), say(f"evaluate.measure.{line.key}")
    return Row(*named, *cells, line.difference.clear_of_zero, _cell(counted) if counted else None, drawn)


def _perplexities(row_set: RowSetReport, line: MeasureResult, ngram: dict[str, Any] | None) -> Row:
    counted = perplexity(Estimate.from_json(ngram["loss"])) if ngram else None
    base, tuned = perplexity(line.base), perplexity(line.tuned)
    factor = _cell(perplexity(line.difference))
    times = Cell(f"× {factor.mean}", factor.interval)
    named = title(row_set), say("evaluate.measure.perplexity")
    clear = line.difference.clear_of_zero
    drawn, none = whiskers_of([line.difference, Estimate(0.0, None, None, 0)])
    return Row(*named, _cell(base), _cell(tuned), times, clear, _cell(counted) if counted else None, [drawn], none.x)


def _cell(found: Estimate, sign: str = "") -> Cell:
    digits = 3 if sign or not math.isfinite(found.mean) or abs(found.mean) < 100 else 1
    mean, _, ends = interval(found, digits, sign).partition(" ")
    return Cell(mean, ends)
