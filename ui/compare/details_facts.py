"""Facts about a finished comparison for templates and plots: forks, curves, processors, figures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from core.words import say
from inference.events import ColumnResult, Result
from inference.measures.divergence import Fork, forks, pairs, pieces, shared
from inference.measures.summary import MEASURES, summarize
from ui.compare import beam_tree
from ui.parts.views import number
from ui.train.follow import thinned

# Okabe & Ito 2008 without black and the pale yellow, a grey, then darker shades: color-blind readers can tell them
# apart, on white and on dark. A number is always shown beside them.
COLORS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9",
    "#8A8A8A", "#B8A800", "#7A4FA3", "#8C5E2A", "#3E7A5E", "#A8324A",
)  # fmt: skip
LONGEST_NAME = 48
POINTS = 600
MOST_CURVES, FIRST_CURVES = 6, 4


@dataclass(frozen=True)
class Named:
    """A column as every view names it: its number on the board (from 1), its line, its color."""

    number: int
    name: str
    color: str

    @property
    def label(self) -> str:
        return f"{self.number} · {self.name}"


def named(result: Result) -> list[Named]:
    """Return the names of the columns, in the order of the board."""
    return [
        Named(index + 1, _shortened(column.name), COLORS[index % len(COLORS)])
        for index, column in enumerate(result.columns)
    ]


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def choices(result: Result) -> list[tuple[str, int]]:
    """Return all columns for a dropdown."""
    return [(column.label, column.number - 1) for column in named(result)]


def percent(probability: float | None) -> str:
    """Format a probability as a percentage; a dash for None."""
    if probability is None:
        return "–"
    share = 100 * probability
    if 0 < share < 0.001:
        return "< 0.001 %"
    return f"{share:.0f} %" if share >= 10 else f"{share:.2g} %"


def fork_view(result: Result, reference: int) -> dict[str, Any]:
    """Return the facts for `forks.html`: the common prefix, a card for each column, the table of all pairs."""
    columns, names = result.columns, named(result)
    common = shared(columns)
    first = next((column for column in columns if column.tokens), None)
    return {
        "common": common,
        "beginning": "".join(pieces(first)[:common]) if first else "",
        "reference": names[reference],
        "cards": [_card(columns, names, fork, reference, common) for fork in forks(columns, reference)],
        "names": names,
        "pairs": {(pair.first, pair.second): pair for pair in pairs(columns)},
        "percent": percent,
        "short": lambda text: beam_tree.short(text, 24),
    }


def _card(
    columns: Sequence[ColumnResult], names: list[Named], fork: Fork, reference: int, common: int
) -> dict[str, Any]:
    """Return the facts of one column: what it shares with the reference after the common prefix, the token at the fork,
    the rest."""
    column = columns[fork.column]
    texts, begun = pieces(column), min(common, fork.common)
    until = begun if fork.column == reference else fork.common
    rest = texts[until:]
    while fork.here and len(rest) > 1 and not rest[0]:  # a part of a character is shown with the character's last part
        rest = rest[1:]
    return {
        "name": names[fork.column],
        "fork": fork,
        "error": column.error,
        "same_model": column.model == columns[reference].model,
        "same": "".join(texts[begun:until]),
        "at": rest[0] if rest and fork.here else "",
        "rest": "".join(rest[1:] if fork.here else rest),
    }


def trees(result: Result) -> list[tuple[str, int]]:
    """Return the columns that have a beam tree, for a dropdown."""
    return [choice for choice in choices(result) if result.columns[choice[1]].trace.branches]


def tree_parts(column: ColumnResult) -> list[tuple[str, int]]:
    """Return the parts of a large tree, for a dropdown."""
    parts = beam_tree.parts(column.trace)
    return [(say("seeing.steps", first=start + 1, last=end), index) for index, (start, end) in enumerate(parts)]


def tree_view(result: Result, index: int, part: int) -> dict[str, Any]:
    """Return the facts for `beam_tree.html`: a part of a column's tree, its rows, its hypotheses."""
    column = result.columns[index]
    trace = column.trace
    start, end = beam_tree.parts(trace)[part]
    texts = {branch.token_id: branch.text for branch in trace.branches}
    hypotheses = [(score, "".join(texts.get(token, "") for token in ids)) for score, ids in trace.others]
    return {
        "picture": beam_tree.picture(trace, start, end),
        "name": named(result)[index],
        "saved": trace.row_forwards,
        "hypotheses": hypotheses,
        "box": (beam_tree.BOX, beam_tree.TALL),
        "short": beam_tree.short,
    }


def drawn_first(result: Result) -> list[int]:
    """Return the columns whose curves are drawn until others are chosen: all, or the first few if lines would
    tangle."""
    count = len(result.columns)
    return list(range(count if count <= MOST_CURVES else FIRST_CURVES))


def curves(result: Result, chosen: Sequence[int], kept: bool) -> pd.DataFrame:
    """Return the points of a plot: the entropy in nats at each token, or log10 of the number of tokens kept."""
    frame: dict[str, list[Any]] = {"token": [], "value": [], "column": []}
    for name, column in zip(named(result), result.columns, strict=True):
        if name.number - 1 not in chosen:
            continue
        for position, value in thinned(_points(column, kept), POINTS):
            frame["token"].append(position)
            frame["value"].append(value)
            frame["column"].append(str(name.number))
    return pd.DataFrame(frame)


def _points(column: ColumnResult, kept: bool) -> list[tuple[int, float]]:
    found = []
    for position, token in enumerate(column.tokens, 1):
        if not kept:
            found.append((position, token.entropy))
        elif token.kept:
            found.append((position, math.log10(token.kept)))
    return found


def colors(result: Result) -> dict[str, str]:
    """Return the color of each column's curve."""
    return {str(column.number): column.color for column in named(result)}


def chain_view(result: Result) -> dict[str, Any]:
    """Return the facts for `chain.html`."""
    return {"columns": list(zip(named(result), result.columns, strict=True)), "number": number}


def table_view(result: Result) -> dict[str, Any]:
    """Return the facts for `summary.html`."""
    return {"measures": MEASURES, "rows": list(zip(named(result), summarize(result), strict=True))}
