"""Layout of a beam tree: one column of the picture for each step, the result's path at the top."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from inference.events import Branch, Trace

STEP, ROW, BOX, TALL = 96, 32, 74, 27
LEFT, TOP = 10, 26
BARS = 46
MOST_BOXES = 2000
_WIDEST = 9
_ORDER = {"live": 0, "finished": 1, "pruned": 2}


@dataclass(frozen=True)
class Box:
    """A hypothesis: its index in the trace, that of its parent if it is drawn, and its top left corner in px."""

    index: int
    parent: int | None
    x: int
    y: int
    row: int
    text: str
    branch: Branch
    on_path: bool


@dataclass(frozen=True)
class Edge:
    """A line from a hypothesis (its right side) to one that continues it (its left side), in px."""

    x1: float
    y1: float
    x2: float
    y2: float
    state: str
    on_path: bool

    @property
    def path(self) -> str:
        """The line as an SVG path."""
        middle = (self.x1 + self.x2) / 2
        return f"M{self.x1:g} {self.y1:g}C{middle:g} {self.y1:g} {middle:g} {self.y2:g} {self.x2:g} {self.y2:g}"


@dataclass(frozen=True)
class Bar:
    """How many rows a step had; all in px but `rows`."""

    x: int
    y: float
    height: float
    rows: int


@dataclass(frozen=True)
class Picture:
    """A part of a beam tree, ready to be drawn; `ticks` are the steps (from 1) with the middle of their boxes."""

    boxes: list[Box]
    edges: list[Edge]
    bars: list[Bar]
    ticks: list[tuple[int, float]]
    width: int
    height: int


def parts(trace: Trace, most: int = MOST_BOXES) -> list[tuple[int, int]]:
    """Return the steps [from, to) of the pictures that a tree is drawn in: one, or more for a large tree."""
    steps = _by_step(trace.branches)
    found: list[tuple[int, int]] = []
    start, boxes = 0, 0
    for step, indices in enumerate(steps):
        if boxes and boxes + len(indices) > most:
            found.append((start, step))
            start, boxes = step, 0
        boxes += len(indices)
    return [*found, (start, len(steps))] if steps else []


def picture(trace: Trace, start: int, end: int) -> Picture:
    """Lay out the steps [start, end) of a tree from left to right; no two boxes overlap."""
    boxes: dict[int, Box] = {}
    path = set(trace.best)
    for step, indices in enumerate(_by_step(trace.branches)[start:end]):
        for row, index in enumerate(sorted(indices, key=lambda index: _place(trace, index, boxes, path))):
            branch = trace.branches[index]
            parent = branch.parent if branch.parent in boxes else None
            x, y = LEFT + step * STEP, TOP + row * ROW
            boxes[index] = Box(index, parent, x, y, row, short(branch.text), branch, index in path)
    bottom = TOP + ROW * (1 + max((box.row for box in boxes.values()), default=0))
    bars = _bars(trace, start, end, bottom)
    width = LEFT * 2 + (end - start - 1) * STEP + BOX
    ticks = [(step + 1, LEFT + (step - start) * STEP + BOX / 2) for step in range(start, end)]
    return Picture(list(boxes.values()), _edges(boxes), bars, ticks, width, bottom + (BARS + 16 if bars else 0))


def _by_step(branches: Sequence[Branch]) -> list[list[int]]:
    steps: list[list[int]] = [[] for _ in range(max((branch.step for branch in branches), default=-1) + 1)]
    for index, branch in enumerate(branches):
        steps[branch.step].append(index)
    return steps


def _place(trace: Trace, index: int, boxes: dict[int, Box], path: set[int]) -> tuple:
    """Return the sort key of a hypothesis: siblings stay together, the result's path first; among siblings live before
    ended, the best first."""
    branch = trace.branches[index]
    above = boxes[branch.parent].row if branch.parent in boxes else 0
    return above, index not in path, _ORDER[branch.state], -branch.score


def _edges(boxes: dict[int, Box]) -> list[Edge]:
    """Return the lines, those of the result's path last, so that they are drawn on top."""
    found = []
    for box in boxes.values():
        if box.parent is not None:
            parent = boxes[box.parent]
            middle = TALL / 2
            ends = (parent.x + BOX, parent.y + middle, box.x, box.y + middle)
            found.append(Edge(*ends, box.branch.state, box.on_path and parent.on_path))
    return sorted(found, key=lambda edge: edge.on_path)


def _bars(trace: Trace, start: int, end: int, bottom: int) -> list[Bar]:
    widths = trace.widths[start:end]
    most = max(trace.fixed_width, *trace.widths) if trace.widths else 1
    heights = [(BARS - 12) * rows / most for rows in widths]
    base = bottom + BARS + 8
    return [
        Bar(LEFT + at * STEP, base - height, height, rows)
        for at, (rows, height) in enumerate(zip(widths, heights, strict=True))
    ]


def short(text: str, widest: int = _WIDEST) -> str:
    """Shorten a token to the width of its box: spaces and line breaks visible, wide characters counted twice."""
    visible = text.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥")
    taken, width = "", 0
    for char in visible:
        width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if width > widest:
            return taken[:-1] + "…"
        taken += char
    return taken
