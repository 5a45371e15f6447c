"""The curves of a run as pictures for its card: small PNG files, drawn line by line, the same ones each time."""

import io
import math
from dataclasses import dataclass

from finetune.publish.files import PlannedFile, made
from finetune.run import Run

WIDTH, HEIGHT = 760, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 34, 40
_INK, _GRID, _PAPER = (60, 60, 67), (228, 228, 231), (255, 255, 255)
_COLOURS = ((37, 99, 235), (234, 88, 12))
_TICKS = 5

Points = list[tuple[int, float]]


@dataclass(frozen=True)
class Line:
    """A named line: values by step, of which those that are no number are left out."""

    name: str
    points: Points


def pictures(run: Run) -> list[PlannedFile]:
    """`loss.png` (training and validation) and `learning-rate.png`; none of what was not measured."""
    progress = run.progress()
    loss = Line("loss", _points({step: event.get("loss") for step, event in progress.train.items()}))
    evals = Line("validation loss", _points({step: event.get("eval_loss") for step, event in progress.evals.items()}))
    rate = Line("learning rate", _points({step: event.get("learning_rate") for step, event in progress.train.items()}))
    drawn = {"loss.png": [loss, evals], "learning-rate.png": [rate]}
    return [made(name, draw(lines)) for name, lines in drawn.items() if any(len(line.points) > 1 for line in lines)]


def _points(values: dict[int, object]) -> Points:
    return [
        (step, float(value))
        for step, value in sorted(values.items())
        if isinstance(value, int | float) and _good(value)
    ]


def _good(value: float) -> bool:
    return math.isfinite(value)


def draw(lines: list[Line]) -> bytes:
    """A PNG with axes, a grid, the lines and their names."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (WIDTH, HEIGHT), _PAPER)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    shown = [line for line in lines if line.points]
    steps = [step for line in shown for step, _ in line.points]
    values = [value for line in shown for _, value in line.points]
    frame = _Frame(min(steps), max(steps), *_bounds(values))
    for value in _ticks(frame.low, frame.high):
        _, y = frame.place(frame.first, value)
        pen.line([(_LEFT, y), (WIDTH - _RIGHT, y)], fill=_GRID)
        pen.text((_LEFT - 8, y), f"{value:.3g}", fill=_INK, font=font, anchor="rm")
    for step in sorted({round(step) for step in _ticks(frame.first, frame.last)}):
        x, _ = frame.place(step, frame.low)
        pen.text((x, HEIGHT - _BOTTOM + 8), str(step), fill=_INK, font=font, anchor="mt")
    pen.text((WIDTH - _RIGHT, HEIGHT - 6), "step", fill=_INK, font=font, anchor="rs")
    x = _LEFT
    for line, colour in zip(shown, _COLOURS, strict=False):
        places = [frame.place(step, value) for step, value in line.points]
        pen.line(places, fill=colour, width=2, joint="curve")
        if len(places) < 30:
            for place in places:
                pen.circle(place, 3, fill=colour)
        pen.line([(x, 16), (x + 22, 16)], fill=colour, width=3)
        pen.text((x + 28, 16), line.name, fill=_INK, font=font, anchor="lm")
        x += 44 + int(pen.textlength(line.name, font=font))
    content = io.BytesIO()
    image.save(content, "PNG", optimize=False)
    return content.getvalue()


@dataclass(frozen=True)
class _Frame:
    """What the axes span, and where a point lies in the picture."""

    first: float
    last: float
    low: float
    high: float

    def place(self, step: float, value: float) -> tuple[float, float]:
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
    return [low + (high - low) * place / (_TICKS - 1) for place in range(_TICKS)]
