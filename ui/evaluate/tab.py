"""The Evaluate tab: a finished run is compared with its base in the background; the report is saved with the run.

The work belongs to its owner, not to a browser tab: any tab of theirs shows its progress.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from ui.parts.background import Background
from ui.parts.background_panel import BackgroundKind, BackgroundPanel
from ui.parts.controls import dropdown, refreshed
from ui.parts.views import render, view
from ui.parts.wiring import QUIET, SHOWN, Page
from ui.train import run_view
from ui.web.handler import Caller, handler
from ui.web.language import Spoken, words

SHIPPED = "shipped"
_evaluations = Background("evaluate.one_at_a_time")


def draw(page: Page) -> None:
    """Draw the tab and wire it."""
    panel = BackgroundPanel(_kind())
    general, rows = _draw(panel)
    panel.wire(page, _begin, {"chosen": panel.picker, "general": general, "rows": rows})
    lists = [panel.picker, general]
    page.on_open(refresh, lists, lists, then=panel.show)
    page.tab.select(refresh, lists, lists, **QUIET).then(*panel.show, **SHOWN)


def _kind() -> BackgroundKind:
    return BackgroundKind(
        prefix="evaluate",
        name="evaluation",
        start="evaluate.start",
        stopping="evaluate.stopping",
        listed="evaluate.run",
        picker_id="evaluate-run",
        works=_evaluations,
        choices=partial(run_view.choices, finished=True),
        show=shown,
        nothing=nothing_yet,
    )


def _draw(panel: BackgroundPanel) -> tuple[gr.Dropdown, gr.Number]:
    """Draw the tab. Return the fields that say what to measure: the set of general text, the number of rows."""
    about = view()
    about.value = Spoken(lambda: render("note", kind="", title="", text=say("evaluate.about")))
    with gr.Row(elem_classes="ts-start", elem_id="evaluate-asked"):
        panel.picker.render()
        general = dropdown("evaluate.general_set", scale=2, min_width=200, elem_id="evaluate-general")
        rows = gr.Number(
            USUAL_ROWS, label=words("evaluate.how_many"), precision=0, min_width=110, elem_id="evaluate-rows"
        )
        panel.start.render()
        panel.stop.render()
    panel.progress.render()
    panel.result.render()
    return general, rows


@handler(quiet=True)
def refresh(caller: Caller, run: str | None, general: str | None) -> tuple:
    """List the owner's finished runs and the sets of general text; choose the newest run if none is chosen."""
    sets = [(say("evaluate.shipped_choice"), SHIPPED), (say("evaluate.none_choice"), NO_GENERAL)]
    return refreshed(run_view.choices(caller, finished=True), run), refreshed(sets + datasets.choices(caller), general)


def _begin(
    caller: Caller, chosen: str | None, general: str | None, rows: Any
) -> tuple[str, Callable[[work.Job], None]]:
    """Check what the fields ask for. Return the run's id and the function that evaluates the run. What cannot be
    measured is refused at once."""
    if not chosen:
        raise UserError("evaluate.no_run")
    run = find(chosen, caller.owner)
    request = EvaluationRequest(None if general in (None, "", SHIPPED) else general, _whole(rows))
    check(run, caller.owner, request)
    limits.check_disk(caller.owner)
    return run.id, lambda job: _work(run, request, caller, job)


def _whole(value: Any) -> int:
    if not isinstance(value, int | float) or value != int(value):
        raise UserError("page.whole_number", field=say("evaluate.how_many"), value=str(value)[:40])
    return int(value)


def _work(run: Run, request: EvaluationRequest, caller: Caller, job: work.Job) -> None:
    """Evaluate the run in the job; take a turn for each piece of it, as every comparison does."""

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
