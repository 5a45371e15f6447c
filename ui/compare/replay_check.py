"""The last comparison run again through plain `generate`, column by column, behind a button."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from core.words import say
from inference.compare.fair_queue import Turn
from inference.events import Loading
from ui.compare import details_facts as facts
from ui.compare.last_comparison import Comparison, comparisons
from ui.parts import job as work
from ui.parts.controls import button
from ui.parts.views import render, view
from ui.parts.wiring import QUIET, SHOWN
from ui.web.handler import Caller, Superseded, handler
from ui.web.language import Spoken


def draw(shelf: Callable[[], Any], join: Callable[[Caller], Turn]) -> gr.HTML:
    """Draw the button and its answer. Return the component for the verdicts. `shelf` keeps the models, `join` gives a
    turn in the queue of comparisons."""
    about = view()
    about.value = Spoken(lambda: render("note", kind="", title="", text=say("seeing.check_about")))
    with gr.Row(elem_classes="ts-chips"):
        start = button("seeing.check_start", size="sm", scale=0, min_width=190, elem_id="check-start")
        stop = button(
            "page.stop", variant="stop", size="sm", scale=0, min_width=90, visible=False, elem_id="check-stop"
        )
    status, verdicts = view(elem_id="check-status"), view(elem_id="verdicts")
    outputs = [status, verdicts, start, stop]
    start.click(_checking(shelf, join), None, outputs, api_name="compare_check", **{**SHOWN, "trigger_mode": "once"})
    stop.click(compare_check_stop, None, None, api_name="compare_check_stop", **QUIET)
    return verdicts


def _checking(shelf: Callable[[], Any], join: Callable[[Caller], Turn]) -> Callable:
    @handler(open_to_anyone=True)
    def compare_check(caller: Caller) -> Iterator[tuple]:
        """Run every column of the last comparison again and show what differs; end when another is compared."""
        kept, turn = comparisons.of(caller), join(caller)
        found: list[Any] = []
        idle = (gr.update(interactive=True), gr.update(visible=False))
        busy = (gr.update(interactive=False), gr.update(visible=True))
        shown = work.run(
            caller,
            "check",
            lambda job: _check(kept, caller, shelf, turn, found, job),
            lambda progress: (progress, _verdict_rows(kept, found), *busy),
            lambda: ("", _verdict_rows(kept, found), *idle),
        )
        for update in shown:
            if comparisons.find(caller) is not kept:
                break
            yield update
        shown.close()
        if comparisons.find(caller) is not kept:
            yield "", "", *idle
            raise Superseded
        yield "", _verdict_rows(kept, found), *idle

    return compare_check


def _check(kept: Comparison, caller: Caller, shelf: Callable, turn: Turn, found: list, job: work.Job) -> None:
    """Check the columns in the job, which waits for its turn, like a comparison, and stops between two columns."""
    from inference.compare.service import replay

    total = len(kept.result.columns)
    with turn:
        if not turn.take(job.stop):
            return
        job.progress = Loading(say("seeing.checking"), 0, total)
        for verdict in replay(kept.request, kept.result, caller.owner, shelf(), job.stop):
            found.append(verdict)
            job.progress = Loading(say("seeing.checking"), len(found), total)


def _verdict_rows(kept: Comparison, found: list) -> str:
    """Return the verdicts so far, one row for each checked column."""
    names = facts.named(kept.result)
    return render("verdicts", verdicts=[(names[verdict.column], verdict) for verdict in found]) if found else ""


@handler(open_to_anyone=True)
def compare_check_stop(caller: Caller) -> None:
    """End the check after the current column."""
    work.stop(caller, "check")
