"""The curves of a run: loss by step and stage, learning rate, speed, and margin and accuracy of preference stages."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
import pandas as pd

from core.words import say
from finetune.runs.events import Event, RunProgress
from finetune.runs.stage_report import margin_of
from ui.parts.wiring import Parts
from ui.train.follow import thinned
from ui.web.language import words

NARROW, WIDE = 260, 1000
"""Widths in px: three plots a row, or one with a long legend."""
Point = tuple[int, float, str]


def draw() -> Parts:
    """Draw two rows of plots: what every run has, and what a preference stage has. Hidden until there is something."""
    with gr.Row(visible=False, elem_id="plots") as usual:
        plots = {
            "loss": _plot("page.plot_loss", "loss", color="series"),
            "learning_rate": _plot("page.plot_rate", "learning_rate"),
            "tokens_per_s": _plot("page.plot_speed", "tokens_per_s"),
        }
    with gr.Row(visible=False, elem_id="preference-plots") as preferences:
        more = {
            "margin": _plot("page.plot_margin", "margin", color="series"),
            "preferred": _plot("page.plot_preferred", "preferred", color="series"),
        }
    return {"plots": usual, **plots, "preference_plots": preferences, **more}


def _plot(title: str, y: str, color: str | None = None) -> gr.LinePlot:
    return gr.LinePlot(
        x="step",
        y=y,
        color=color,
        title=words(title),
        color_title=" ",
        x_title=words("page.step"),
        y_title=" ",
        height=210,
        min_width=NARROW,
        buttons=[],
    )


def hidden() -> dict[str, Any]:
    """Return what the plots show of no run, by the names of `draw`."""
    rows = dict.fromkeys(("plots", "preference_plots"), gr.update(visible=False))
    return rows | dict.fromkeys(("loss", "learning_rate", "tokens_per_s", "margin", "preferred"))


def shown(progress: RunProgress) -> dict[str, Any]:
    """Return what the plots show of a run, by the names of `draw`."""
    train = thinned(list(progress.train.values()))
    loss = pd.DataFrame([*losses(progress), *marks(progress)], columns=["step", "loss", "series"])
    found: dict[str, Any] = {
        "plots": gr.update(visible=bool(train)),
        "loss": gr.update(value=loss, min_width=WIDE if loss["series"].nunique() > 3 else NARROW),
    }
    for name in ("learning_rate", "tokens_per_s"):
        found[name] = pd.DataFrame([(event["step"], event.get(name)) for event in train], columns=["step", name])
    margin = _preferences(progress, "margin", margin_of)
    found |= {"preference_plots": gr.update(visible=not margin.empty), "margin": margin}
    return found | {"preferred": _preferences(progress, "preferred", _share)}


def _preferences(progress: RunProgress, name: str, figure: Callable[[Event], float | None]) -> pd.DataFrame:
    """Return a figure of the preference stages in training and on the held-out rows."""
    events = [*thinned(list(progress.train.values())), *_measured(progress)]
    known = [(event["step"], figure(event), _kind(event)) for event in events if figure(event) is not None]
    return pd.DataFrame(known, columns=["step", name, "series"])


def _share(event: Event) -> float | None:
    return event.get("preferred")


def _measured(progress: RunProgress) -> list[Event]:
    """Return the evaluations, including those before a later stage's first step."""
    return [*progress.begins.values(), *thinned(list(progress.evals.values()))]


def _kind(event: Event) -> str:
    return say("page.validation" if event["type"] == "eval" else "page.training")


def losses(progress: RunProgress) -> list[Point]:
    """Return training and validation losses, a series for each stage: their losses are different quantities."""
    objectives = [stage["objective"] for stage in (progress.started or {}).get("stages") or []]
    train = thinned(list(progress.train.values()))
    found = [(event["step"], event["loss"], _series(event, objectives, "training")) for event in train]
    held = sorted(_measured(progress), key=lambda event: event["step"])
    return found + [(event["step"], event["eval_loss"], _series(event, objectives, "validation")) for event in held]


def _series(event: Event, objectives: list[str], kind: str) -> str:
    stage = event.get("stage") or 0
    if len(objectives) < 2 or stage >= len(objectives):
        return say(f"page.{kind}")
    if kind == "validation":
        return say("page.series_validation", number=stage + 1)
    return say("page.series_training", number=stage + 1, objective=say(f"config.objective.{objectives[stage]}"))


def marks(progress: RunProgress) -> Iterator[Point]:
    """Return the best step and the early end of each stage as vertical lines, as high as the stage's losses."""
    for kind, places in (("best", _best(progress)), ("early", _early(progress))):
        for stage, step in places.items():
            heights = [event["loss"] for event in progress.train.values() if (event.get("stage") or 0) == stage]
            name = say(f"page.series_{kind}", number=stage + 1)
            yield from ((step, height, name) for height in (min(heights, default=0.0), max(heights, default=1.0)))


def _best(progress: RunProgress) -> dict[int, int]:
    ended = {**progress.early, **{stage: event for stage, event in progress.over.items() if event.get("best")}}
    return {stage: event["best"] for stage, event in ended.items() if event.get("best") is not None}


def _early(progress: RunProgress) -> dict[int, int]:
    return {stage: event["step"] for stage, event in progress.early.items()}
