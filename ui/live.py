"""A run as it is going: picked from the list, polled every two seconds, stopped and resumed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
import pandas as pd

from core.errors import UserError
from core.words import say
from finetune.launch.local import LocalLauncher
from finetune.run import Run, find, list_runs
from ui import work
from ui.caller import Caller, handler
from ui.controls import button, dropdown, refreshed
from ui.language import Spoken, words
from ui.runs import follow, thinned
from ui.views import render, view
from ui.wiring import SHOWN, Page

LISTED = 50
LOG_LINES = 30


@dataclass
class Live:
    """The picker of runs, and how the view of the chosen one is drawn anew."""

    picker: gr.Dropdown
    wiring: tuple


def draw(page: Page) -> Live:
    """Draw the run's view and wire it."""
    with gr.Row(elem_classes="ts-start"):
        picker = dropdown("page.your_runs", scale=4, min_width=280, elem_id="runs")
        stop = button("page.stop_run", variant="stop", scale=1, min_width=110, visible=False, elem_id="stop-run")
        resume = button("page.resume_run", scale=1, min_width=110, visible=False, elem_id="resume-run")
    answer = view(elem_id="run-answer")
    state = view(elem_id="run-state")
    state.value = Spoken(nothing_yet)
    with gr.Row(visible=False, elem_id="plots") as plots:
        curves = [
            _plot("page.plot_loss", "loss", color="series"),
            _plot("page.plot_rate", "learning_rate"),
            _plot("page.plot_speed", "tokens_per_s"),
        ]
    samples = view(elem_id="samples")
    with gr.Accordion(words("page.log"), open=False, visible=False) as log_box:
        log = gr.Textbox(show_label=False, lines=12, max_lines=12, interactive=False, elem_id="log", buttons=["copy"])
    seen = gr.State("")
    outputs = [seen, picker, state, stop, resume, plots, *curves, samples, log_box, log]
    _wire(page, picker, stop, resume, answer, seen, outputs)
    page.runs.append(picker)
    return Live(picker, (show, picker, outputs))


def _plot(title: str, y: str, color: str | None = None) -> gr.LinePlot:
    return gr.LinePlot(
        x="step",
        y=y,
        color=color,
        title=words(title),
        x_title=words("page.step"),
        y_title=" ",
        height=210,
        min_width=260,
        buttons=[],
    )


def _wire(page: Page, picker: Any, stop: Any, resume: Any, answer: Any, seen: Any, outputs: list) -> None:
    picker.input(show, picker, outputs, **SHOWN)
    page.every_two_seconds(tick, [picker, seen], outputs)
    page.on_open(refresh, picker, picker, then=(show, picker, outputs))
    stop.click(stop_run, picker, answer, **SHOWN)
    resume.click(resume_run, picker, answer, **SHOWN).success(show, picker, outputs, **SHOWN)


@handler(quiet=True)
def refresh(caller: Caller, chosen: str | None) -> Any:
    """The owner's runs, the newest chosen where none is."""
    return refreshed(choices(caller), chosen)


def choices(caller: Caller, *, finished: bool = False) -> list[tuple[str, str]]:
    """The owner's runs for a dropdown, newest first; `finished`: only those with a result."""
    found = []
    for run in list_runs(caller.owner)[:LISTED]:
        progress = follow(run).progress
        if finished and progress.ending != "done":
            continue
        found.append((f"{run.id} · {_about(run)} · {say(f'run.status.{state_of(run)}')}", run.id))
    return found


def _about(run: Run) -> str:
    """A run's model and method; nothing where another version of the program wrote its config."""
    try:
        config = run.config()
    except UserError:
        return "–"
    return f"{config.model.rstrip('/').rsplit('/', 1)[-1]} · {config.method}"


def state_of(run: Run) -> str:
    """queued, running, stopped, failed or done. The lock is looked at first: an ending is written under it."""
    alive = run.alive()
    progress = follow(run).progress
    if alive:
        return "running" if progress.begun else "queued"
    return progress.ending or "failed"


@handler(quiet=True)
def tick(caller: Caller, chosen: str | None, seen: str) -> list:
    """What changed since the last look; nothing is sent where nothing did."""
    return _view(caller, chosen, seen)


@handler()
def show(caller: Caller, chosen: str | None) -> list:
    """The whole view of a run."""
    return _view(caller, chosen, None)


def _view(caller: Caller, chosen: str | None, seen: str | None) -> list:
    if not chosen:
        shown = [nothing_yet(), *[gr.update(visible=False)] * 3, *[None] * 3, "", gr.update(visible=False), ""]
        return ["", gr.skip(), *shown] if seen != "" else [gr.skip()] * 12
    run = find(chosen, caller.owner)
    state = state_of(run)
    now = f"{run.id} {state} {follow(run).cursor}"
    if now == seen:
        return [gr.skip()] * 12
    progress = follow(run).progress
    html = render("run", run=run, state=state, about=_about(run), progress=progress, error=_error(run, state))
    going = state in ("queued", "running")
    buttons = [gr.update(visible=going), gr.update(visible=state in ("stopped", "failed"))]
    samples = render("samples", samples=progress.samples)
    plots = [gr.update(visible=bool(progress.train)), *_curves(progress)]
    changed = not (seen or "").startswith(f"{run.id} {state} ")
    listed = gr.update(choices=choices(caller), value=chosen) if changed else gr.skip()
    return [now, listed, html, *buttons, *plots, samples, gr.update(visible=True), run.log_tail(LOG_LINES)]


def _error(run: Run, state: str) -> str | None:
    return run.status().error if state == "failed" else None


def _curves(progress: Any) -> list:
    train = thinned(list(progress.train.values()))
    series, held_out = say("page.training"), say("page.validation")
    losses = [(event["step"], event["loss"], series) for event in train]
    losses += [(event["step"], event["eval_loss"], held_out) for event in thinned(list(progress.evals.values()))]
    frames = [pd.DataFrame(losses, columns=["step", "loss", "series"])]
    for name in ("learning_rate", "tokens_per_s"):
        frames.append(pd.DataFrame([(event["step"], event.get(name)) for event in train], columns=["step", name]))
    return frames


def nothing_yet() -> str:
    """What the view says before there is any run."""
    return render("empty", title=say("page.no_run"), text=say("page.no_run_help"))


@handler()
def stop_run(caller: Caller, chosen: str | None) -> str:
    """Ask the run to save a checkpoint and end."""
    run = find(chosen or "", caller.owner)
    LocalLauncher().stop(run)
    return render("note", kind="ts-warn", title="", text=say("page.stopping", run=run.id))


@handler()
def resume_run(caller: Caller, chosen: str | None) -> Iterator[str]:
    """Go on from the last checkpoint."""
    run = find(chosen or "", caller.owner)

    def resume(job: work.Job) -> None:
        LocalLauncher().resume(run, caller.owner, progress=job.report, stop=job.stop)

    yield from work.run(caller, "resume", resume, str, str)
    yield render("note", kind="ts-good", title="", text=say("page.resumed", run=run.id))
