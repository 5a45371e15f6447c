"""A prompt set's report as a table with intervals, a dot with whiskers for each column, and its files to download."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.words import say
from core.workspace import Owner
from inference.measures.bootstrap import Estimate
from inference.measures.summary import MEASURES, Measure
from inference.prompt_sets import report as set_report
from ui.parts.views import render

WIDTH, ROW, EDGE = 190, 15, 16
LARGEST_LINK = 6_000_000
FILES = ((set_report.MEANS_CSV, "text/csv"), (set_report.ANSWERS_CSV, "text/csv"), (set_report.ANSWERS, "text/json"))
PROBLEMS = 50


@dataclass(frozen=True)
class Whisker:
    """One column's place in a drawing, in pixels: the dot at `x`, the whisker from `left` to `right`."""

    number: int
    y: float
    x: float
    left: float
    right: float


@dataclass(frozen=True)
class Cell:
    """A mean with its interval, and its difference to the first column, as a person reads them; `clear`: that
    difference's interval does not contain 0."""

    column: str
    mean: str
    interval: str
    difference: str = ""
    clear: bool = False


@dataclass(frozen=True)
class Line:
    """One measure of all columns. `reference` is the position of the first column's mean in the plot."""

    measure: Measure
    cells: list[Cell]
    whiskers: list[Whisker]
    reference: float | None


def shown(owner: Owner, identity: str | None) -> str:
    """Return the report of one of the owner's sets, or the note that there is none."""
    if not identity:
        return render("empty", title=say("sets.nothing"), text=say("sets.nothing_help"))
    report = set_report.load(owner, identity)
    return render(
        "prompt_set",
        report=report,
        lines=lines_of(report),
        links=_links(set_report.folder_of(owner, identity)),
        problems=report["problems"][:PROBLEMS],
        width=WIDTH,
        height=ROW * len(report["columns"]) + 4,
    )


def lines_of(report: dict[str, Any]) -> list[Line]:
    """Return a line for each measure that any column has."""
    columns = report["columns"]
    found = {m.key: [_estimate(column["measures"][m.key]) for column in columns] for m in MEASURES}
    return [_line(measure, columns, found[measure.key]) for measure in MEASURES if any(found[measure.key])]


def _estimate(facts: dict[str, Any] | None) -> Estimate | None:
    return None if facts is None else Estimate.from_json(facts)


def _line(measure: Measure, columns: list[dict[str, Any]], found: list[Estimate | None]) -> Line:
    cells = []
    for index, (column, mine) in enumerate(zip(columns, found, strict=True)):
        name = f"{index + 1} · {column['name']}"
        difference = _estimate(column["against_first"][measure.key]) if index else None
        cells.append(_cell(name, mine, difference, measure.digits or 1))
    whiskers = whiskers_of(found)
    first = next((whisker.x for whisker in whiskers if whisker.number == 1), None)
    return Line(measure, cells, whiskers, first)


def _cell(name: str, mine: Estimate | None, difference: Estimate | None, digits: int) -> Cell:
    if mine is None:
        return Cell(name, "–", "")
    difference_text = (
        "" if difference is None else f"Δ {_signed(difference.mean, digits)} {_interval(difference, digits, '+')}"
    )
    clear = difference is not None and difference.clear_of_zero
    return Cell(name, _plain(mine.mean, digits), _interval(mine, digits), difference_text, clear)


def _interval(found: Estimate, digits: int, sign: str = "") -> str:
    if found.low is None or found.high is None:
        return ""
    low, high = (f"{value:{sign}.{digits}f}".replace("-", "−") for value in (found.low, found.high))
    return f"[{low}, {high}]"


def _plain(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def whiskers_of(found: list[Estimate | None]) -> list[Whisker]:
    """Return the position of each column's mean and interval, on one scale from the lowest to the highest of them."""
    ends = [
        end
        for estimate in found
        if estimate is not None
        for end in (estimate.mean, estimate.low, estimate.high)
        if end is not None
    ]
    lowest, highest = min(ends, default=0.0), max(ends, default=0.0)

    def x(value: float) -> float:
        share = 0.5 if highest == lowest else (value - lowest) / (highest - lowest)
        return round(EDGE + share * (WIDTH - EDGE - 8), 1)

    return [
        Whisker(
            index + 1,
            index * ROW + ROW / 2 + 2,
            x(estimate.mean),
            x(estimate.mean if estimate.low is None else estimate.low),
            x(estimate.mean if estimate.high is None else estimate.high),
        )
        for index, estimate in enumerate(found)
        if estimate is not None
    ]


def _links(folder: Path) -> list[dict[str, Any]]:
    """Return links that contain the set's files: the page serves no file of the workspace."""
    links = []
    for name, kind in FILES:
        path = folder / name
        large = not path.is_file() or path.stat().st_size > LARGEST_LINK
        content = "" if large else base64.b64encode(path.read_bytes()).decode()
        links.append({"name": name, "href": None if large else f"data:{kind};base64,{content}"})
    return links
