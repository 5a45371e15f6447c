"""`python -m inference prompts`: a file of prompts under every column, as a table of means with intervals."""

import argparse
import sys
import threading
from pathlib import Path
from typing import TextIO

from core.errors import UserError
from core.files import write_file
from core.words import say
from inference.events import Loading


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options that `compare` does not have."""
    add = command.add_argument
    add("file", type=Path, metavar="FILE", help="prompts or conversations: .txt (one prompt per line), .json or .jsonl")
    add("--first", type=int, metavar="N", help="max prompts: use only the first N of the file")
    add("--out", type=Path, metavar="FILE.csv", help="also write the means and intervals to this CSV file")


def run(options: argparse.Namespace, out: TextIO, stop: threading.Event) -> int:
    """Run the set and print the table, or one JSON object. Returns 0, or 3 if a prompt or a column failed."""
    from core.workspace import local_owner
    from inference.compare.request import CompareRequest
    from inference.prompt_sets import report as set_report
    from inference.prompt_sets.reading import read_prompts
    from inference.prompt_sets.running import PromptSet, check_set, finish, run_set

    request = CompareRequest(
        options.model, options.columns, adapter=options.adapter, seed=options.seed,
        max_new_tokens=options.max_new_tokens, dtype=options.dtype, raw=options.raw,
    )  # fmt: skip
    prompt_set = PromptSet(tuple(read_prompts(options.file, options.first)), request, options.file.name)
    check_set(prompt_set)
    from inference.models.cache import Shelf

    owner = local_owner()
    outcome = finish(run_set(prompt_set, owner, Shelf(), stop), _Bar(quiet=options.json))
    report = set_report.report_of(set_report.new_id(), prompt_set, outcome)
    folder = set_report.save(owner, report, outcome)
    if options.out is not None:
        _write(options.out, set_report.means_csv(report))
    print(set_report.as_json(report, outcome) if options.json else table(report), file=out, flush=True)
    for problem in outcome.problems:
        print(_problem(problem.number, problem.column, problem.error), file=sys.stderr)
    if not options.json:
        print(say("sets.kept", folder=folder), file=sys.stderr)
    return 3 if outcome.problems or outcome.status == "failed" else 0


def _problem(number: int, column: str | None, error: str) -> str:
    return f"{number}{f', {column}' if column else ''}: {error}"


def _write(path: Path, content: str) -> None:
    try:
        write_file(path, b"\xef\xbb\xbf" + content.encode())
    except OSError as error:
        raise UserError("sets.out", value=str(path)[:200], reason=error.strerror or str(error)) from None


class _Bar:
    """Prints the progress of the set to stderr, one line per change."""

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._said = quiet, ""

    def __call__(self, progress: Loading) -> None:
        if not self._quiet and progress.text != self._said:
            self._said = progress.text
            print(progress.text, file=sys.stderr, flush=True)


def table(report: dict) -> str:
    """Return the report for a terminal: a block per column, a line per measure, with its difference to the first column
    at the end."""
    from inference.measures.summary import MEASURES

    facts = {name: report[name] for name in ("answered", "prompts", "model", "dtype")}
    lines = [say("sets.head", problems=len(report["problems"]), **facts)]
    for index, column in enumerate(report["columns"]):
        lines += ["", f"--- {column['name']} ({column['model']})"]
        for measure in MEASURES:
            found, difference = column["measures"][measure.key], column["against_first"][measure.key]
            if found is not None:
                differs = f"   {_interval(difference, measure.digits, '+')}" if index and difference else ""
                lines.append(f"{measure.key:14}{_interval(found, measure.digits, '')}{differs}".rstrip())
    return "\n".join(lines)


def _interval(found: dict, digits: int, sign: str) -> str:
    """Return a mean with its interval, such as `   12.40 [   11.90,    13.10]`; a difference has its sign."""
    decimals = digits or 1
    mean = f"{found['mean']:{sign}10.{decimals}f}"
    if found["low"] is None:
        return f"{mean} {'':24}"
    return f"{mean} [{found['low']:{sign}10.{decimals}f}, {found['high']:{sign}10.{decimals}f}]"
