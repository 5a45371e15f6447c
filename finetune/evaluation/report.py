"""The report of a run's evaluation, saved in the run's folder (`evaluation.json`)."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import full_disk_in_words, read_json, write_json
from core.words import counted, say
from finetune.runs.run import Run
from inference.measures.bootstrap import Estimate
from inference.models.fingerprint import fingerprint

FILE = "evaluation.json"
VERSION = 1
_LARGEST_LOSS = 20
EvaluationReport = dict[str, Any]
RowSetReport = dict[str, Any]


def save(run: Run, report: EvaluationReport) -> None:
    """Write the report, completely or not at all. Raises UserError where the disk is full."""
    with full_disk_in_words(run.folder):
        write_json(run.folder / FILE, report)


def load(run: Run) -> EvaluationReport | None:
    """Return the report of the run's last evaluation; None where there is none.

    Raises UserError where it is damaged, or of another version of the program.
    """
    if not (run.folder / FILE).is_file():
        return None
    try:
        report = read_json(run.folder / FILE)
        if report["version"] != VERSION:
            raise ValueError("another version")
        for row_set in report["sets"]:
            lines_of(row_set)
            title(row_set)
        return report
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError("evaluate.damaged", value=run.id, file=FILE) from error


def fits(run: Run, report: EvaluationReport) -> bool:
    """Return whether the report is about the weights that the run has now."""
    return run.model.is_dir() and report["tuned"]["fingerprint"] == weights_of(run.model)


def weights_of(model: Path) -> str:
    """Return a hash of the learned weights: for an adapter, that of its one file."""
    adapter = model / "adapter_model.safetensors"
    if not adapter.is_file():
        return fingerprint(model)
    with adapter.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class MeasureResult:
    """One measure of a set: both models and their paired difference, tuned - base."""

    key: str
    base: Estimate
    tuned: Estimate
    difference: Estimate
    verdict: str
    rows_base: float
    rows_tuned: float


def lines_of(row_set: RowSetReport) -> list[MeasureResult]:
    """Return the measures of a set of rows, the loss first."""
    return [
        MeasureResult(
            key=measure["key"],
            base=Estimate.from_json(measure["base"]),
            tuned=Estimate.from_json(measure["tuned"]),
            difference=Estimate.from_json(measure["difference"]),
            verdict=measure["verdict"],
            rows_base=measure["by_row"]["base"]["mean"],
            rows_tuned=measure["by_row"]["tuned"]["mean"],
        )
        for measure in row_set["measures"]
    ]


def loss_of(row_set: RowSetReport) -> MeasureResult:
    """Return the loss of a set of rows."""
    return next(line for line in lines_of(row_set) if line.key == "loss")


def set_of(report: EvaluationReport, key: str) -> RowSetReport | None:
    """Return the set "held_out" or "general"; None where it was not measured."""
    return next((row_set for row_set in report["sets"] if row_set["key"] == key), None)


def perplexity(loss: Estimate) -> Estimate:
    """Return e to the power of a loss per token and of the ends of its interval (a percentile interval keeps its
    level)."""
    low, high = (None if end is None else _exponential(end) for end in (loss.low, loss.high))
    return Estimate(_exponential(loss.mean), low, high, loss.count)


def _exponential(loss: float) -> float:
    return math.exp(loss) if loss < _LARGEST_LOSS else math.inf


def interval(found: Estimate, digits: int = 3, sign: str = "") -> str:
    """Return an estimate as text, such as `1.234 [1.100, 1.400]`, with a typographic minus."""
    ends = (
        ""
        if found.low is None or found.high is None
        else f" [{found.low:{sign}.{digits}f}, {found.high:{sign}.{digits}f}]"
    )
    return f"{found.mean:{sign}.{digits}f}{ends}".replace("-", "−")


def judged(report: EvaluationReport) -> list[tuple[str, str]]:
    """Return the report's results as (verdict, sentence): for the held-out rows, for forgetting, and against the n-gram
    model."""
    said = []
    for row_set in report["sets"]:
        stage = f"{title(row_set)}: " if row_set["stage"] else ""
        for line in lines_of(row_set):
            key = {"loss": row_set["key"], "preference_accuracy": "preference"}.get(line.key)
            if key:
                facts = {"difference": interval(line.difference, 3, "+"), "rows": row_set["measured"]}
                said.append((line.verdict, stage + say(f"evaluate.{key}_{line.verdict}", **facts)))
        ngram = row_set["ngram"]
        if ngram and ngram["verdict"] != "few":
            difference = interval(Estimate.from_json(ngram["tuned_difference"]), 3, "+")
            said.append((ngram["verdict"], stage + say(f"evaluate.ngram_{ngram['verdict']}", difference=difference)))
    return said


def notes(report: EvaluationReport) -> list[str]:
    """Return what a reader must know about the figures: which rows were skipped, truncated or not used."""
    counted = [note for row_set in report["sets"] for note in _ngram_notes(row_set["ngram"])]
    return [note for row_set in report["sets"] for note in _notes_of(row_set)] + counted


def _notes_of(row_set: RowSetReport) -> list[str]:
    facts = {key: row_set[key] for key in ("rows", "measured", "dropped", "cut", "taken")}
    facts |= {"title": title(row_set), "length": row_set["max_length"]}
    found = [
        say("evaluate.measured", tokens=row_set["tokens"], counted=counted("core.rows", row_set["measured"]), **facts)
    ]
    for key in ("dropped", "cut"):
        if row_set[key]:
            found.append(say(f"evaluate.{key}", **facts))
    if row_set["taken"] < row_set["rows"]:
        found.append(say("evaluate.bounded", **facts))
    return found


def _ngram_notes(ngram: dict[str, Any] | None) -> list[str]:
    if ngram is None:
        return []
    names = ("order", "rows", "of_rows", "tokens", "discount")
    key = "evaluate.ngram_bounded" if ngram["rows"] < ngram["of_rows"] else "evaluate.ngram_about"
    return [say(key, **{name: ngram[name] for name in names})]


def title(row_set: RowSetReport) -> str:
    """Return the name of a set of rows for people."""
    if row_set["stage"]:
        return say("evaluate.held_out_stage", number=row_set["stage"], objective=row_set["objective"])
    if row_set["key"] == "held_out":
        return say("evaluate.held_out")
    return say("evaluate.shipped") if row_set["name"] is None else say("evaluate.general", name=row_set["name"])
