"""The Evaluate tab: a finished run against its base, in the background; the report stays with the run.

The work belongs to its owner, not to a browser tab: any tab of theirs shows how far it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from core import limits, logs
from core.errors import UserError
from core.words import say
from finetune.evaluation.evaluate import EvaluationContext, evaluate
from finetune.evaluation.row_sets import NO_GENERAL, USUAL_ROWS, EvaluationRequest, check
from finetune.runs.run import Run, find
from inference.compare.fair_queue import wait_for_place
from ui.compare import tab as compare_tab
from ui.data import datasets
from ui.evaluate.view import nothing_yet, shown
from ui.parts import job as work
from ui.parts.background import Background, failed
from ui.parts.controls import button, dropdown, refreshed
from ui.parts.views import render, view
from ui.parts.wiring import QUIET, SHOWN, Page
from ui.train import run_view
from ui.web.handler import Caller, handler
from ui.web.language import Spoken, words

SHIPPED = "shipped"
PARTS = 6
_evaluations = Background("evaluate.one_at_a_time")


@dataclass
class EvaluationPanel:
    """The tab's components. `seen` is what the caller last saw of the work."""

    run: gr.Dropdown
    general: gr.Dropdown
    rows: gr.Number
    start: gr.Button
    stop: gr.Button
    progress: gr.HTML
    result: gr.HTML
    seen: gr.State

    def asked(self) -> list:
        return [self.run, self.general, self.rows]

    def outputs(self) -> list:
        """What `tick_evaluation` fills."""
        return [self.seen, self.progress, self.start, self.stop, self.run, self.result]


def draw(page: Page) -> None:
    """Draw the tab and wire it."""
    panel = _draw()
    panel.start.click(start_evaluation, panel.asked(), panel.outputs(), **SHOWN, trigger_mode="once")
    panel.stop.click(stop_evaluation, None, panel.progress, **QUIET)
    panel.run.input(show_evaluation, panel.run, panel.result, **SHOWN)
    page.every_two_seconds(tick_evaluation, panel.seen, panel.outputs())
    lists, shows = [panel.run, panel.general], (show_evaluation, panel.run, panel.result)
    page.on_open(refresh, lists, lists, then=shows)
    page.tab.select(refresh, lists, lists, **QUIET).then(*shows, **SHOWN)


def _draw() -> EvaluationPanel:
    about = view()
    about.value = Spoken(lambda: render("note", kind="", title="", text=say("evaluate.about")))
    with gr.Row(elem_classes="ts-start", elem_id="evaluate-asked"):
        run = dropdown("evaluate.run", scale=4, min_width=280, elem_id="evaluate-run")
        general = dropdown("evaluate.general_set", scale=2, min_width=200, elem_id="evaluate-general")
        rows = gr.Number(
            USUAL_ROWS, label=words("evaluate.how_many"), precision=0, min_width=110, elem_id="evaluate-rows"
        )
        start = button("evaluate.start", variant="primary", min_width=140, elem_id="evaluate-start")
        stop = button("page.stop", variant="stop", interactive=False, min_width=90, elem_id="evaluate-stop")
    progress = view(elem_id="evaluate-progress")
    result = view(elem_id="evaluate-result")
    result.value = Spoken(nothing_yet)
    return EvaluationPanel(run, general, rows, start, stop, progress, result, gr.State(""))


@handler(quiet=True)
def refresh(caller: Caller, run: str | None, general: str | None) -> tuple:
    """The owner's finished runs, the newest chosen where none is, and what can be the general text."""
    sets = [(say("evaluate.shipped_choice"), SHIPPED), (say("evaluate.none_choice"), NO_GENERAL)]
    return refreshed(run_view.choices(caller, finished=True), run), refreshed(sets + datasets.choices(caller), general)


@handler()
def start_evaluation(caller: Caller, chosen: str | None, general: str | None, rows: Any) -> list:
    """Begin an evaluation in the background; one at a time for each owner. What cannot be measured is told at once."""
    if not chosen:
        raise UserError("evaluate.no_run")
    run, asked = (
        find(chosen, caller.owner),
        EvaluationRequest(None if general in (None, "", SHIPPED) else general, _whole(rows)),
    )
    check(run, caller.owner, asked)
    limits.check_disk(caller.owner)
    _evaluations.begin(caller, run.id, lambda job: _work(run, asked, caller, job))
    return _state(caller, "")


def _whole(value: Any) -> int:
    if not isinstance(value, int | float) or value != int(value):
        raise UserError("page.whole_number", field=say("evaluate.how_many"), value=str(value)[:40])
    return int(value)


def _work(run: Run, request: EvaluationRequest, caller: Caller, job: work.Job) -> None:
    """What the job does; for each piece of it a turn is taken, as every comparison takes one."""

    def report(progress: Any) -> None:
        job.progress = progress

    with logs.timed("evaluation", id=run.id, rows=request.rows):
        context = EvaluationContext(compare_tab.shelf(), report, job.stop, partial(_turn, caller, job))
        evaluate(run, caller.owner, request, context)


@contextmanager
def _turn(caller: Caller, job: work.Job) -> Iterator[None]:
    with wait_for_place(lambda: compare_tab.join(caller, "evaluation"), job.stop) as turn:
        if not turn.take(job.stop):
            raise UserError("evaluate.stopped")
        yield


@handler()
def stop_evaluation(caller: Caller) -> str:
    """Stop the owner's evaluation before its next batch."""
    if not _evaluations.stop(caller):
        return ""
    return render("note", kind="ts-warn", title="", text=say("evaluate.stopping"))


@handler(quiet=True)
def tick_evaluation(caller: Caller, seen: str) -> list:
    """How far the owner's evaluation is; its report when it has ended. Nothing is sent where nothing changed."""
    return _state(caller, seen)


def _state(caller: Caller, seen: str) -> list:
    known = _evaluations.of(caller)
    now = known.stamp if known is not None else seen
    if known is None or now == seen:
        return [gr.skip()] * PARTS
    alive, job = known.alive, known.job
    buttons = [gr.update(interactive=not alive), gr.update(interactive=alive)]
    if alive:
        told = gr.skip() if job.stop.is_set() else render("progress", progress=job.progress)
        return [now, told, *buttons, gr.skip(), gr.skip()]
    if job.error is not None:
        return [now, failed(known), *buttons, gr.skip(), gr.skip()]
    listed = gr.update(choices=run_view.choices(caller, finished=True), value=known.id)
    return [now, "", *buttons, listed, shown(caller.owner, known.id)]


@handler(quiet=True)
def show_evaluation(caller: Caller, chosen: str | None) -> str:
    """The report of a run, where it has one."""
    return shown(caller.owner, chosen)
