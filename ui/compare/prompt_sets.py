"""Prompt sets: many prompts through the board's columns, in the background; the result is means with intervals.

The work belongs to its owner, not to a browser tab: any tab of theirs shows its progress, and its result is on disk.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from core import limits, logs, settings
from core.errors import UserError
from core.words import say
from core.workspace import RUN_ID
from finetune.runs.run import find
from finetune.runs.split import held_out_rows
from inference.compare.fair_queue import Turn
from inference.compare.request import CompareRequest
from inference.events import Loading
from inference.prompt_sets import report as set_report
from inference.prompt_sets.reading import MOST_PROMPTS, SUFFIXES, PromptItem, of_rows, read_prompts
from inference.prompt_sets.running import PromptSet, check_set, finish, run_set
from ui.compare import board
from ui.compare.prompt_sets_view import shown
from ui.data import datasets
from ui.parts import delete_button
from ui.parts import job as work
from ui.parts.background import Background
from ui.parts.background_panel import BackgroundKind, BackgroundPanel
from ui.parts.controls import dropdown, refreshed
from ui.parts.views import render, view
from ui.parts.wiring import QUIET, SHOWN, Page, Parts
from ui.train import run_view
from ui.web.handler import Caller, handler
from ui.web.language import Spoken, words

USUAL, LISTED = 20, 50
_sets = Background("sets.one_at_a_time")


@dataclass(frozen=True)
class CompareServices:
    """What a set uses of Compare: how its fields become a request, a turn in its queue, its loaded models."""

    request: Callable[..., CompareRequest]
    join: Callable[[Caller], Turn]
    shelf: Callable[[], Any]


@dataclass
class PromptSetFields:
    """The components that say which prompts to run."""

    upload: gr.File
    source: gr.Dropdown
    first: gr.Number


def draw(page: Page, compared: Parts, services: CompareServices) -> None:
    """Draw the accordion and wire it; `compared` are Compare's board, named `cards`, and settings."""
    panel = BackgroundPanel(_kind())
    with gr.Accordion(words("sets.title"), open=False, elem_id="prompt-set"):
        fields, deleted = _draw(panel)
    upload, source = fields.upload, fields.source
    inputs: Parts = {"path": upload, "source": source, "first": fields.first, **compared}
    panel.wire(page, partial(_begin, services), inputs)
    upload.upload(_none, None, source, **QUIET)
    source.input(_none, None, upload, **QUIET)
    deleted.success(*panel.show, **SHOWN)
    page.on_open(refresh_sets, panel.picker, [panel.picker, source], then=panel.show)
    page.tab.select(refresh_sources, None, source, **QUIET)


def _kind() -> BackgroundKind:
    return BackgroundKind(
        prefix="set",
        name="set",
        start="sets.start",
        stopping="sets.stopping",
        listed="sets.yours",
        picker_id="sets",
        works=_sets,
        choices=choices,
        show=shown,
        nothing=_nothing,
    )


def _draw(panel: BackgroundPanel) -> tuple[PromptSetFields, Any]:
    about = view()
    about.value = Spoken(_about)
    with gr.Row(equal_height=True):
        upload = gr.File(
            label=words("sets.upload"),
            file_types=list(SUFFIXES),
            height=130,
            scale=2,
            min_width=260,
            elem_id="set-file",
        )
        with gr.Column(scale=3, min_width=280):
            source = dropdown("sets.source", info=words("sets.source_help"), elem_id="set-source")
            with gr.Row(elem_classes="ts-start"):
                first = gr.Number(USUAL, label=words("sets.how_many"), precision=0, min_width=110, elem_id="set-first")
                panel.start.render()
                panel.stop.render()
    panel.progress.render()
    with gr.Row(elem_classes="ts-bar"):
        panel.picker.render()
        deleted = delete_button.draw(panel.picker, choices, "set", set_report.remove)
    panel.result.render()
    return PromptSetFields(upload, source, first), deleted


def _about() -> str:
    text = say("sets.about", most=MOST_PROMPTS)
    return render("note", kind="", title="", text=f"{text} {say('sets.sign_in')}" if settings.on_space() else text)


def _nothing() -> str:
    return render("empty", title=say("sets.nothing"), text=say("sets.nothing_help"))


@handler(quiet=True)
def _none(caller: Caller) -> None:
    """Clear the other source: of a file and the owner's own rows, the one that was given last counts."""


def _begin(
    services: CompareServices,
    caller: Caller,
    *,
    path: str | None,
    source: str | None,
    first: Any,
    cards: Any,
    **more: Any,
) -> tuple[str, Callable[[work.Job], None]]:
    """Check what the fields ask for. Return the id of the new set and the function that runs it."""
    request = services.request("-", board.lines_of(cards), **more)
    before = list(request.messages[:-1]) if request.messages else None
    prompts, name = _prompts(caller, path, source, _whole(first))
    prompt_set = PromptSet(tuple(prompts), replace(request, prompt=None, messages=before), name)
    check_set(prompt_set)
    limits.check_disk(caller.owner)
    identity = set_report.new_id()
    return identity, lambda job: _work(prompt_set, caller, services, identity, job)


def _whole(value: Any) -> int:
    if not isinstance(value, int | float) or value != int(value):
        raise UserError("page.whole_number", field=say("sets.how_many"), value=str(value)[:40])
    return int(value)


def _prompts(caller: Caller, path: str | None, source: str | None, first: int) -> tuple[list[PromptItem], str]:
    """Return the prompts and their name: an uploaded file's, a run's held-out rows, a dataset's first rows."""
    if path:
        return read_prompts(Path(path), first), Path(path).name
    if not source:
        raise UserError("sets.no_source")
    if RUN_ID.fullmatch(source):
        rows = held_out_rows(find(source, caller.owner))
        if not rows:
            raise UserError("sets.no_held_out", value=source)
        return of_rows(rows, source, first), say("sets.held_out", title=source)
    dataset = datasets.owned(caller, source)
    return of_rows(dataset.rows(min(max(first, 1), MOST_PROMPTS)), dataset.name, first), dataset.name


def _work(prompt_set: PromptSet, caller: Caller, services: CompareServices, identity: str, job: work.Job) -> None:
    """Run the set in the job, then save it as a whole."""

    def report(progress: Loading) -> None:
        job.progress = progress

    facts = {"prompts": len(prompt_set.prompts), "columns": len(prompt_set.request.columns)}
    with logs.timed("prompt_set", id=identity, **facts) as record:
        steps = run_set(prompt_set, caller.owner, services.shelf(), job.stop, lambda: services.join(caller))
        outcome = finish(steps, report)
        record |= {"answered": len(outcome.answers), "status": outcome.status}
        if outcome.status == "stopped" and not outcome.answers:
            raise UserError("page.stopped")
        set_report.save(caller.owner, set_report.report_of(identity, prompt_set, outcome), outcome)


@handler(quiet=True)
def refresh_sets(caller: Caller, chosen: str | None) -> tuple:
    """List the owner's sets and the sources of prompts; choose the newest set if none is chosen."""
    return refreshed(choices(caller), chosen), gr.update(choices=_sources(caller))


@handler(quiet=True)
def refresh_sources(caller: Caller) -> Any:
    """List the owner's runs and datasets as sources of prompts."""
    return gr.update(choices=_sources(caller))


def _sources(caller: Caller) -> list[tuple[str, str]]:
    runs = [(say("sets.held_out", title=title), run) for title, run in run_view.choices(caller, finished=True)]
    rows = [(say("sets.first_rows", title=title), name) for title, name in datasets.choices(caller)]
    return runs + rows


def choices(caller: Caller) -> list[tuple[str, str]]:
    """Return the owner's sets for a dropdown, newest first; a damaged one by its id alone."""
    return [(_title(caller, identity), identity) for identity in set_report.listed(caller.owner)[:LISTED]]


def _title(caller: Caller, identity: str) -> str:
    try:
        report = set_report.load(caller.owner, identity)
    except UserError:
        return identity
    columns = len(report["columns"])
    counted = say("sets.counted", answered=report["answered"], prompts=report["prompts"], columns=columns)
    return f"{report['name']} · {counted} · {report['created'][:16].replace('T', ' ')}"
