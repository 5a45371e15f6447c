"""The curves of a run as pictures for its card: small PNG files, identical for identical values."""

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from typing import TypeGuard

from finetune.publish.repo.files import made
from finetune.publish.repo.scan import PlannedFile
from finetune.runs.events import Event, RunProgress
from finetune.runs.run import Run

WIDTH, HEIGHT = 760, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 34, 40
_INK, _GRID, _PAPER = (60, 60, 67), (228, 228, 231), (255, 255, 255)
_COLORS, _HELD_OUT = ((37, 99, 235), (22, 163, 74), (147, 51, 234), (8, 145, 178)), (234, 88, 12)
_TICKS, _DOTS_BELOW, _SHARP = 5, 30, 2

Points = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Curve:
    """A named curve: values by step, without NaN and infinity. Curves on held-out rows (`held_out`) share a color."""

    name: str
    points: Points
    held_out: bool = False


def pictures(run: Run) -> list[PlannedFile]:
    """Draw `loss.png` (training and validation) and `learning-rate.png`; without measurements, no file."""
    progress = run.progress()
    rate = Curve("learning rate", _points({step: event.get("learning_rate") for step, event in progress.train.items()}))
    drawn = {"loss.png": losses(progress), "learning-rate.png": [rate]}
    return [
        made(name, draw(tuple(lines))) for name, lines in drawn.items() if any(len(line.points) > 1 for line in lines)
    ]


def losses(progress: RunProgress) -> list[Curve]:
    """Return training and validation loss; each of several stages has a curve of its own, since their losses are
    different quantities."""
    objectives = [stage["objective"] for stage in (progress.started or {}).get("stages") or []]
    stages = range(max(len(objectives), 1))
    names = [f"{number} {objective}" for number, objective in enumerate(objectives, 1)] if len(stages) > 1 else ["loss"]
    lines = [
        Curve(names[stage], _points({step: event.get("loss") for step, event in _of(progress.train, stage)}))
        for stage in stages
    ]
    for stage in stages:
        held = {step: event.get("eval_loss") for step, event in _of(progress.evals, stage)}
        if stage in progress.begins:
            held |= {progress.begins[stage]["step"]: progress.begins[stage].get("eval_loss")}
        lines.append(Curve("" if stage else "validation loss", _points(held), held_out=True))
    return lines


def _of(table: dict[int, Event], stage: int) -> list[tuple[int, Event]]:
    return [(step, event) for step, event in table.items() if (event.get("stage") or 0) == stage]


def _points(values: dict[int, object]) -> Points:
    return tuple((step, float(value)) for step, value in sorted(values.items()) if _good(value))


def _good(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and math.isfinite(value)


@lru_cache(maxsize=16)
def draw(lines: tuple[Curve, ...]) -> bytes:
    """Return a PNG with axes, a grid, the curves and their names."""
    shown = [line for line in lines if line.points]
    steps = [step for line in shown for step, _ in line.points]
    values = [value for line in shown for _, value in line.points]
    frame, pen = _Frame(min(steps), max(steps), *_bounds(values)), _Pen()
    _draw_axes(frame, pen)
    x = _LEFT
    for line, own in zip(shown, cycle(_COLORS), strict=False):
        color = _HELD_OUT if line.held_out else own
        points = [frame.position(step, value) for step, value in line.points]
        pen.line(points, color, 2)
        if len(points) < _DOTS_BELOW:
            pen.dots(points, color)
        if line.name:
            pen.line([(x, 16), (x + 22, 16)], color, 3)
            x += 44 + pen.text((x + 28, 16), line.name, "lm")
    return pen.png()


def _draw_axes(frame: "_Frame", pen: "_Pen") -> None:
    for value in _ticks(frame.low, frame.high):
        _, y = frame.position(frame.first, value)
        pen.line([(_LEFT, y), (WIDTH - _RIGHT, y)], _GRID, 1)
        pen.text((_LEFT - 8, y), f"{value:.3g}", "rm")
    for step in sorted({round(step) for step in _ticks(frame.first, frame.last)}):
        x, _ = frame.position(step, frame.low)
        pen.text((x, HEIGHT - _BOTTOM + 8), str(step), "mt")
    pen.text((WIDTH - _RIGHT, HEIGHT - 6), "step", "rs")


class _Pen:
    """Draws at twice the size of the picture, so that its lines are smooth."""

    def __init__(self) -> None:
        from PIL import Image, ImageDraw, ImageFont

        self.image = Image.new("RGB", (_SHARP * WIDTH, _SHARP * HEIGHT), _PAPER)
        self.drawing, self.font = ImageDraw.Draw(self.image), ImageFont.load_default(13 * _SHARP)

    def line(self, points: list[tuple[float, float]], color: tuple[int, int, int], width: int) -> None:
        self.drawing.line([_large(point) for point in points], fill=color, width=width * _SHARP, joint="curve")

    def dots(self, points: list[tuple[float, float]], color: tuple[int, int, int]) -> None:
        for point in points:
            self.drawing.circle(_large(point), 3 * _SHARP, fill=color)

    def text(self, point: tuple[float, float], text: str, anchor: str) -> int:
        """Draw a text; returns its width."""
        self.drawing.text(_large(point), text, fill=_INK, font=self.font, anchor=anchor)
        return round(self.drawing.textlength(text, font=self.font) / _SHARP)

    def png(self) -> bytes:
        content = io.BytesIO()
        self.image.reduce(_SHARP).save(content, "PNG")
        return content.getvalue()


def _large(point: tuple[float, float]) -> tuple[float, float]:
    return point[0] * _SHARP, point[1] * _SHARP


@dataclass(frozen=True)
class _Frame:
    """The ranges of the axes, and the position of a point in the picture."""

    first: float
    last: float
    low: float
    high: float

    def position(self, step: float, value: float) -> tuple[float, float]:
        across = (step - self.first) / ((self.last - self.first) or 1)
        up = (value - self.low) / ((self.high - self.low) or 1)
        return (
            round(_LEFT + across * (WIDTH - _LEFT - _RIGHT), 1),
            round(HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM), 1),
        )


def _bounds(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - room if low < 0 else max(low - room, 0.0), high + room


def _ticks(low: float, high: float) -> list[float]:
    return [low + (high - low) * index / (_TICKS - 1) for index in range(_TICKS)]
