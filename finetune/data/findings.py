"""What is wrong with single rows: a rule, its severity, the rows it holds for, and what to do about it."""

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
"""Every rule, in the order in which findings are shown. Rows under an error are left out, under a warning kept."""


@dataclass(frozen=True)
class Finding:
    """One rule and the rows (1-based numbers in the file) it holds for; `facts` fill its sentences."""

    rule: str
    severity: Severity
    rows: list[int]
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What is wrong, in the reader's language."""
        return say(f"data.rule.{self.rule}", **self.facts)

    @property
    def remedy(self) -> str:
        """What to do about it, in the reader's language."""
        return say(f"data.remedy.{self.rule}", **self.facts)

    def to_json(self) -> dict[str, object]:
        """`{rule, severity, rows, remedy}`."""
        return {"rule": self.rule, "severity": self.severity, "rows": self.rows, "remedy": self.remedy}


def findings(found: dict[str, list[int]], **facts: object) -> list[Finding]:
    """Findings in the order of `RULES` from row numbers by rule; rules without rows give none."""
    return [Finding(rule, RULES[rule], sorted(found[rule]), facts) for rule in RULES if found.get(rule)]


def placed(finding: Finding) -> str:
    """A finding's title and the rows it holds for: "Duplicates (rows 3, 7-9)"."""
    where = "data.in_row" if len(finding.rows) == 1 else "data.in_rows"
    return say(where, title=finding.title, rows=shortened(finding.rows))


def shortened(rows: Iterable[int], most: int = 10) -> str:
    """Row numbers as a person reads them: "3, 7-9 and 120 more"."""
    spans: list[list[int]] = []
    for row in sorted(rows):
        if spans and row == spans[-1][1] + 1:
            spans[-1][1] = row
        else:
            spans.append([row, row])
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans[:most])
    more = sum(last - first + 1 for first, last in spans[most:])
    return say("data.rows_and_more", rows=shown, more=more) if more else shown
