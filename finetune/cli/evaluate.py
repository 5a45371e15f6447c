"""`python -m finetune evaluate RUN`: before and after as a table, or one JSON; progress on stderr."""

import argparse
import sys

from core.words import say
from core.workspace import local_owner
from finetune.cli.terminal import print_json, show_progress
from finetune.evaluation.report import (
    FILE,
    EvaluationReport,
    interval,
    judged,
    lines_of,
    loss_of,
    notes,
    perplexity,
    title,
)
from finetune.evaluation.row_sets import MOST_ROWS, USUAL_ROWS, EvaluationRequest
from inference.measures.bootstrap import Estimate


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the command's options; RUN is added by the caller."""
    command.add_argument("--general", metavar="DATASET", help=say("evaluate.help.general"))
    rows = say("evaluate.help.rows", usual=USUAL_ROWS, most=MOST_ROWS)
    command.add_argument("--rows", type=int, default=USUAL_ROWS, metavar="N", help=rows)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate the run and print the report. Returns 0 also where the tuned model is worse: that is a result."""
    from finetune.evaluation.evaluate import EvaluationContext, evaluate
    from finetune.runs.run import find
    from inference.models.cache import Shelf

    owner = local_owner()
    run = find(arguments.which, owner)
    report = evaluate(
        run, owner, EvaluationRequest(arguments.general, arguments.rows), EvaluationContext(Shelf(), show_progress)
    )
    if arguments.json:
        print_json(report)
        return 0
    print(table(report))
    print(say("evaluate.kept", folder=run.folder / FILE), file=sys.stderr)
    return 0


def table(report: EvaluationReport) -> str:
    """Return the report as text: verdicts, the figures of each row set, skipped rows, samples."""
    named = {name: report[name] for name in ("run", "dtype", "device")}
    lines = [say("evaluate.head", base=report["base"]["name"], created=report["created"][:10], **named), ""]
    lines += [sentence for _, sentence in judged(report)]
    for row_set in report["sets"]:
        lines += ["", f"--- {title(row_set)}"]
        for line in lines_of(row_set):
            name = say(f"evaluate.measure.{line.key}")
            lines += [
                name,
                _row("base", line.base),
                _row("tuned", line.tuned),
                _row("difference", line.difference, "+"),
            ]
        loss = loss_of(row_set)
        lines += [say("evaluate.measure.perplexity")]
        lines += [_row("base", perplexity(loss.base)), _row("tuned", perplexity(loss.tuned))]
        lines += [say("evaluate.by_row"), f"  {loss.rows_base:.3f} -> {loss.rows_tuned:.3f}", *_ngram(row_set["ngram"])]
    return "\n".join([*lines, "", *notes(report), *_samples(report)])


def _row(name: str, found: Estimate, sign: str = "") -> str:
    return f"  {say(NAMES[name]):16} {interval(found, sign=sign)}"


NAMES = {
    "base": "evaluate.model_base",
    "tuned": "evaluate.model_tuned",
    "difference": "evaluate.difference",
    "ngram": "evaluate.model_ngram",
    "against_ngram": "evaluate.against_ngram",
}


def _ngram(found: dict | None) -> list[str]:
    if found is None:
        return []
    loss, difference = (Estimate.from_json(found[name]) for name in ("loss", "tuned_difference"))
    return [say("evaluate.measure.loss"), _row("ngram", loss), _row("against_ngram", difference, "+")]


def _samples(report: EvaluationReport) -> list[str]:
    lines = []
    for sample in report["samples"]:
        texts = (("prompt", "evaluate.prompt"), ("reference", "evaluate.reference"), *list(NAMES.items())[:2])
        lines += ["", *(f"{say(key)}: {' '.join(sample[name].split())[:200]}" for name, key in texts)]
    return lines
