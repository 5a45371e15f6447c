"""The report of a prompt set: means with intervals, as JSON and CSV, in the owner's `prompt-sets/<id>/`.

A folder holds `set.json` (the report), `answers.json` (every text with its measures), `means.csv` and `answers.csv`.
"""

import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core import logs
from core.errors import UserError
from core.files import full_disk_in_words, new_folder, read_json, write_json
from core.workspace import Owner
from inference.measures.bootstrap import Estimate, estimate, paired
from inference.measures.summary import MEASURES, to_csv
from inference.prompt_sets.running import Outcome, PromptSet

SET_ID = re.compile(r"s\d{8}-\d{6}-[0-9a-f]{4}")
REPORT, ANSWERS, MEANS_CSV, ANSWERS_CSV = "set.json", "answers.json", "means.csv", "answers.csv"
_EXCERPT = 160
Report = dict[str, Any]


def new_id() -> str:
    """Return a new id, sortable by time: `s20261123-181502-3fa9`."""
    return time.strftime("s%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(2)


def report_of(identity: str, prompt_set: PromptSet, outcome: Outcome) -> Report:
    """Return the report: the request, what failed, and for each column the estimate of every measure.

    `measures` has mean, low, high and count by measure, or None if no prompt gave a value; `against_first` the same of
    the paired differences to the first column.
    """
    request = prompt_set.request
    problems = [
        {
            "number": problem.number,
            "column": problem.column,
            "prompt": problem.prompt[:_EXCERPT],
            "error": problem.error,
        }
        for problem in outcome.problems
    ]
    return {
        "id": identity,
        "name": prompt_set.name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "status": outcome.status,
        "error": outcome.error,
        "request": {
            "model": request.model,
            "adapter": request.adapter,
            "columns": list(request.columns),
            "seed": request.seed,
            "max_new_tokens": request.max_new_tokens,
            "raw": request.raw,
            "exact": request.exact,
            "before": [dict(message) for message in request.messages or ()],
        },
        "model": outcome.model,
        "dtype": outcome.dtype,
        "prompts": len(prompt_set.prompts),
        "answered": len(outcome.answers),
        "problems": problems,
        "columns": _columns(prompt_set, outcome),
    }


def _columns(prompt_set: PromptSet, outcome: Outcome) -> list[dict[str, Any]]:
    values = [_values(outcome, index) for index in range(len(prompt_set.request.columns))]
    return [
        {
            "name": name,
            "model": next((row["model"] for answer in outcome.answers if (row := answer.rows[index])), ""),
            "measures": {key: _estimate_json(estimate(_known(found))) for key, found in values[index].items()},
            "against_first": {
                key: _estimate_json(paired(found, values[0][key])) for key, found in values[index].items()
            },
        }
        for index, name in enumerate(prompt_set.request.columns)
    ]


def _values(outcome: Outcome, index: int) -> dict[str, list[float | None]]:
    """Return a column's values by measure, one for each answered prompt."""
    rows = [answer.rows[index] or {} for answer in outcome.answers]
    return {measure.key: [_number(row.get(measure.key)) for row in rows] for measure in MEASURES}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _estimate_json(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else found.to_json()


def means_csv(report: Report) -> str:
    """Return a line for each column and measure: the mean, its interval, and the difference to the first column."""
    rows = []
    for column in report["columns"]:
        for measure in MEASURES:
            found, difference = column["measures"][measure.key], column["against_first"][measure.key]
            if found is not None:
                differs = {f"difference_{name}": value for name, value in (difference or {}).items()}
                rows.append(
                    {"column": column["name"], "model": column["model"], "measure": measure.key} | found | differs
                )
    return to_csv(rows)


def answers_of(outcome: Outcome) -> list[dict[str, Any]]:
    """Return every prompt with its seed and, for each column, text and measures (None if it failed)."""
    return [
        {"number": answer.number, "prompt": answer.prompt, "seed": answer.seed, "columns": answer.rows}
        for answer in outcome.answers
    ]


def answers_csv(outcome: Outcome) -> str:
    """Return a line for each prompt and column that answered it."""
    return to_csv(
        [
            {"number": answer.number, "prompt": answer.prompt, "seed": answer.seed} | row
            for answer in outcome.answers
            for row in answer.rows
            if row is not None
        ]
    )


def save(owner: Owner, report: Report, outcome: Outcome) -> Path:
    """Write the whole set, or nothing. Raises UserError if the disk is full."""
    folder = owner.prompt_sets / report["id"]
    owner.prompt_sets.mkdir(parents=True, exist_ok=True)
    with full_disk_in_words(owner.prompt_sets), new_folder(folder) as part:
        write_json(part / ANSWERS, {"answers": answers_of(outcome)})
        (part / MEANS_CSV).write_text(means_csv(report), encoding="utf-8-sig", newline="")
        (part / ANSWERS_CSV).write_text(answers_csv(outcome), encoding="utf-8-sig", newline="")
        write_json(part / REPORT, report)
    return folder


def folder_of(owner: Owner, identity: str) -> Path:
    """Return the folder of one of the owner's sets. Raises UserError if there is none."""
    folder = owner.prompt_sets / identity
    if not SET_ID.fullmatch(identity) or not (folder / REPORT).is_file():
        raise UserError("sets.none", value=identity[:80])
    return folder


def load(owner: Owner, identity: str) -> Report:
    """Return the report of one of the owner's sets. Raises UserError if there is none, or it is damaged."""
    folder = folder_of(owner, identity)
    try:
        report = read_json(folder / REPORT)
        return report | {"columns": [_checked(column) for column in report["columns"]]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        logs.event("damaged_set", logging.WARNING, id=identity, kind=type(error).__name__)
        raise UserError("sets.damaged", value=identity) from error


def _checked(column: dict[str, Any]) -> dict[str, Any]:
    """Return a column with an entry for every measure: one that another version of the program wrote may lack some."""
    tables = {name: {m.key: column[name].get(m.key) for m in MEASURES} for name in ("measures", "against_first")}
    return {"name": str(column["name"]), "model": str(column["model"])} | tables


def listed(owner: Owner) -> list[str]:
    """Return the ids of the owner's sets, the newest first."""
    found = [path.parent.name for path in owner.prompt_sets.glob(f"s*/{REPORT}")]
    return sorted((name for name in found if SET_ID.fullmatch(name)), reverse=True)


def remove(identity: str, owner: Owner) -> str:
    """Delete one of the owner's sets for good, in one step. Returns its id."""
    folder = folder_of(owner, identity)
    gone = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.gone")
    os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)
    return identity


def as_json(report: Report, outcome: Outcome) -> str:
    """Return the report and every answer in one object."""
    return json.dumps(report | {"answers": answers_of(outcome)}, ensure_ascii=False)
