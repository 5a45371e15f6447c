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
Report = dict[str, Any]
Set = dict[str, Any]


def save(run: Run, report: Report) -> None:
    """Write the report, completely or not at all. Raises UserError where the disk is full."""
    with full_disk_in_words(run.folder):
        write_json(run.folder / FILE, report)


def load(run: Run) -> Report | None:
    """Return the report of the run's last evaluation; None where there is none.

    Raises UserError where it is damaged, or of another version of the program.
    """
    if not (run.folder / FILE).is_file():
        return None
    try:
        report = read_json(run.folder / FILE)
        if report["version"] != VERSION:
            raise ValueError("another version")
        for one in report["sets"]:
            lines_of(one)
            title(one)
        return report
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError("evaluate.damaged", value=run.id, file=FILE) from error


def fits(run: Run, report: Report) -> bool:
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
class Line:
    """One measure of a set: both models and their paired difference, tuned - base."""

    key: str
    base: Estimate
    tuned: Estimate
    difference: Estimate
    verdict: str
    rows_base: float
    rows_tuned: float


def lines_of(one: Set) -> list[Line]:
    """Return the measures of a set of rows, the loss first."""
    return [
        Line(
            key=found["key"],
            base=Estimate.from_json(found["base"]),
            tuned=Estimate.from_json(found["tuned"]),
            difference=Estimate.from_json(found["difference"]),
            verdict=found["verdict"],
            rows_base=found["by_row"]["base"]["mean"],
            rows_tuned=found["by_row"]["tuned"]["mean"],
        )
        for found in one["measures"]
    ]


def loss_of(one: Set) -> Line:
    """Return the loss of a set of rows."""
    return next(line for line in lines_of(one) if line.key == "loss")


def set_of(report: Report, key: str) -> Set | None:
    """Return the set "held_out" or "general"; None where it was not measured."""
    return next((one for one in report["sets"] if one["key"] == key), None)


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


def judged(report: Report) -> list[tuple[str, str]]:
    """Return the report's results as (verdict, sentence): for the held-out rows, for forgetting, and against the n-gram
    model."""
    said = []
    for one in report["sets"]:
        stage = f"{title(one)}: " if one["stage"] else ""
        for line in lines_of(one):
            key = {"loss": one["key"], "preference_accuracy": "preference"}.get(line.key)
            if key:
                facts = {"difference": interval(line.difference, 3, "+"), "rows": one["measured"]}
                said.append((line.verdict, stage + say(f"evaluate.{key}_{line.verdict}", **facts)))
        ngram = one["ngram"]
        if ngram and ngram["verdict"] != "few":
            difference = interval(Estimate.from_json(ngram["tuned_difference"]), 3, "+")
            said.append((ngram["verdict"], stage + say(f"evaluate.ngram_{ngram['verdict']}", difference=difference)))
    return said


def notes(report: Report) -> list[str]:
    """Return what a reader must know about the figures: which rows were skipped, truncated or not used."""
    counted = [note for one in report["sets"] for note in _ngram_notes(one["ngram"])]
    return [note for one in report["sets"] for note in _notes_of(one)] + counted


def _notes_of(one: Set) -> list[str]:
    facts = {key: one[key] for key in ("rows", "measured", "dropped", "cut", "taken")}
    facts |= {"title": title(one), "length": one["max_length"]}
    found = [say("evaluate.measured", tokens=one["tokens"], counted=counted("core.rows", one["measured"]), **facts)]
    for key in ("dropped", "cut"):
        if one[key]:
            found.append(say(f"evaluate.{key}", **facts))
    if one["taken"] < one["rows"]:
        found.append(say("evaluate.bounded", **facts))
    return found


def _ngram_notes(ngram: dict[str, Any] | None) -> list[str]:
    if ngram is None:
        return []
    names = ("order", "rows", "of_rows", "tokens", "discount")
    key = "evaluate.ngram_bounded" if ngram["rows"] < ngram["of_rows"] else "evaluate.ngram_about"
    return [say(key, **{name: ngram[name] for name in names})]


def title(one: Set) -> str:
    """Return the name of a set of rows for people."""
    if one["stage"]:
        return say("evaluate.held_out_stage", number=one["stage"], objective=one["objective"])
    if one["key"] == "held_out":
        return say("evaluate.held_out")
    return say("evaluate.shipped") if one["name"] is None else say("evaluate.general", name=one["name"])
