"""Problems of single rows: the rule, its severity, the rows that break it, and the remedy."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from core.words import say

Severity = Literal["error", "warning"]

RULES: dict[str, Severity] = {
    "unreadable": "error",
    "wrong_type": "error",
    "empty_prompt": "error",
    "empty_answer": "error",
    "empty_text": "error",
    "wrong_roles": "error",
    "same_answers": "error",
    "tool_calls": "error",
    "duplicate": "error",
    "template": "error",
    "nothing_learned": "error",
    "too_long": "warning",
    "control_tokens": "warning",
    "unanswered": "warning",
    "unused_fields": "warning",
}
"""Every rule, in the order in which findings are shown. Rows with an error are skipped, rows with a warning kept."""


@dataclass(frozen=True)
class DataFinding:
    """One rule and the rows (1-based numbers in the file) that break it; `facts` fill its sentences."""

    rule: str
    severity: Severity
    rows: list[int]
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The problem, in the reader's language."""
        return say(f"data.rule.{self.rule}", **self.facts)

    @property
    def remedy(self) -> str:
        """The remedy, in the reader's language."""
        return say(f"data.remedy.{self.rule}", **self.facts)

    def to_json(self) -> dict[str, object]:
        """Return `{rule, severity, rows, remedy}`."""
        return {"rule": self.rule, "severity": self.severity, "rows": self.rows, "remedy": self.remedy}


def findings(found: dict[str, list[int]], **facts: object) -> list[DataFinding]:
    """Return the findings in the order of `RULES`, from the row numbers of each rule; a rule without rows gives
    none."""
    return [DataFinding(rule, RULES[rule], sorted(found[rule]), facts) for rule in RULES if found.get(rule)]


def placed(finding: DataFinding) -> str:
    """Return a finding's title with its rows: "Duplicates (rows 3, 7-9)"."""
    where = "data.in_row" if len(finding.rows) == 1 else "data.in_rows"
    return say(where, title=finding.title, rows=shortened(finding.rows))


def shortened(rows: Iterable[int], most: int = 10) -> str:
    """Return row numbers for people: "3, 7-9 and 120 more"."""
    spans: list[list[int]] = []
    for row in sorted(rows):
        if spans and row == spans[-1][1] + 1:
            spans[-1][1] = row
        else:
            spans.append([row, row])
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans[:most])
    more = sum(last - first + 1 for first, last in spans[most:])
    return say("data.rows_and_more", rows=shown, more=more) if more else shown
