"""Choosing a model: a button beside a field, and a panel with suggestions, a search of the Hub, and what fits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from core.errors import UserError
from core.hub.reach import endpoint
from core.words import say
from core.workspace import Owner
from finetune.base_models.search import search, with_config_details
from finetune.base_models.suggested import SIZE_BOUNDS, SUGGESTED, TASKS, Model, languages, matching
from finetune.plan.card import weights_in_words
from finetune.plan.fit import USUAL_LENGTH, USUAL_ROWS, Here, fits, inspect_machine
from ui.parts import job as work
from ui.parts.controls import button, textbox
from ui.parts.views import carrier, render, view
from ui.parts.wiring import NEWEST, QUIET, SHOWN, Parts, by_name
from ui.web.handler import Caller, handler
from ui.web.language import words

LOOK_SECONDS = 10.0
"""How long to wait for a config.json; without it, less is shown of the model."""


@dataclass(frozen=True)
class Listed:
    """The models to choose from: the Hub's results for a `text`, or the suggestions."""

    text: str | None = None
    models: tuple[Model, ...] = SUGGESTED
    looked: Here | None = None


@dataclass
class Picker:
    """The panel: filters, search and results."""

    opener: gr.Button
    box: gr.Column
    close: gr.Button
    task: gr.Dropdown
    size: gr.Dropdown
    language: gr.Dropdown
    text: gr.Textbox
    go: gr.Button
    stop: gr.Button
    note: gr.HTML
    table: gr.HTML
    choice: gr.HTML
    listed: gr.State = field(default_factory=lambda: gr.State(Listed()))

    def filters(self) -> Parts:
        return {"task": self.task, "size": self.size, "language": self.language}


def draw(name: gr.Textbox | gr.Dropdown, prefix: str, *, open_to_anyone: bool = False) -> None:
    """Put the button beside the field of a model's `name`, and the panel below; both wired. `prefix` begins the ids."""
    row = name.parent
    assert row is not None, "a field stands in a row"
    with row:
        opener = button(
            "picker.choose", size="sm", scale=0, min_width=84, elem_id=f"{prefix}-choose", elem_classes="ts-choose"
        )
    row.children.remove(opener)
    row.children.insert(row.children.index(name) + 1, opener)
    with gr.Column(visible=False, elem_id=f"{prefix}-picker", elem_classes="ts-pickerbox") as box:
        picker = _draw_panel(opener, box, prefix)
    _wire(picker, name, prefix, open_to_anyone)


def _draw_panel(opener: gr.Button, box: gr.Column, prefix: str) -> Picker:
    with gr.Row(elem_classes="ts-picker"):
        task = _choice("task", TASKS, prefix)
        size = _choice("size", tuple(SIZE_BOUNDS), prefix)
        known = [(words("picker.any"), ""), *((code, code) for code in languages())]
        language = gr.Dropdown(
            known, value="", label=words("picker.language"), min_width=110, elem_id=f"{prefix}-picker-language"
        )
        text = textbox(
            "picker.search",
            hint="picker.search_hint",
            max_lines=1,
            scale=3,
            min_width=200,
            elem_id=f"{prefix}-picker-text",
        )
        go = button("picker.go", scale=0, min_width=90, elem_id=f"{prefix}-picker-go")
        stop = button("page.stop", variant="stop", visible=False, scale=0, min_width=90)
        close = button("picker.close", scale=0, min_width=90, elem_id=f"{prefix}-picker-close")
    note = view(elem_id=f"{prefix}-picker-told")
    table = view(scripts=("sort_table.js", "picker.js"), elem_id=f"{prefix}-picker-table")
    choice = carrier("picker_choice.js", panel=f"{prefix}-picker")
    return Picker(opener, box, close, task, size, language, text, go, stop, note, table, choice)


def _choice(name: str, keys: tuple[str, ...], prefix: str) -> gr.Dropdown:
    choices = [(words("picker.any"), ""), *((words(f"picker.{name}_{key}"), key) for key in keys)]
    return gr.Dropdown(
        choices, value="", label=words(f"picker.{name}"), min_width=130, elem_id=f"{prefix}-picker-{name}"
    )


def _wire(picker: Picker, name: gr.Textbox | gr.Dropdown, prefix: str, anyone: bool) -> None:
    """Wire the panel. A visitor who is not signed in may only choose among the suggestions, where they may use a
    model."""

    def to(fn: Callable, inputs: Any = None, outputs: Any = None, *, closed: bool = False) -> dict[str, Any]:
        bound = by_name(handler(open_to_anyone=anyone and not closed)(fn), inputs, outputs)
        return {**bound, "api_name": f"{prefix}_{fn.__name__}"}

    once = {**SHOWN, "trigger_mode": "once"}
    shown: Parts = {"listed": picker.listed, **picker.filters()}
    opened, outputs = [picker.box, picker.listed, picker.table], [picker.note, picker.stop, picker.listed, picker.table]
    picker.opener.click(**to(pick_open, shown, opened), **once)
    picker.close.click(**to(pick_close, outputs=picker.box), **QUIET)
    for chosen in (picker.task, picker.size, picker.language):
        chosen.input(**to(pick_filter, shown, picker.table), **NEWEST)
    for starter in (picker.go.click, picker.text.submit):
        starter(**to(pick_search, {"text": picker.text, **shown}, outputs, closed=True), **once)
    picker.stop.click(**to(pick_stop, closed=True), **QUIET)
    given = [picker.choice, picker.listed]
    picker.choice.submit(**to(pick, given, [name, picker.note]), **SHOWN)


def pick_open(caller: Caller, listed: Listed, task: Any, size: Any, language: Any) -> tuple:
    """Open the panel, and check anew which models fit."""
    listed = Listed(listed.text, listed.models, inspect_machine())
    return gr.update(visible=True), listed, _table(listed, task, size, language)


def pick_close(caller: Caller) -> Any:
    """Close the panel."""
    return gr.update(visible=False)


def pick_filter(caller: Caller, listed: Listed, task: Any, size: Any, language: Any) -> str:
    """Show only the models of a task, size and language."""
    return _table(listed, task, size, language)


def pick_search(caller: Caller, text: Any, listed: Listed, task: Any, size: Any, language: Any) -> Iterator[tuple]:
    """Search the Hub for models with the text in their names; without a text, list the suggestions again."""
    wanted = str(text or "").strip()
    busy = lambda progress: (progress, gr.update(visible=True), gr.skip(), gr.skip())  # noqa: E731
    idle = lambda: ("", gr.update(visible=False), gr.skip(), gr.skip())  # noqa: E731
    found = yield from work.run(caller, "models", lambda job: listed_for(wanted, caller.owner, job), busy, idle)
    yield "", gr.update(visible=False), found, _table(found, task, size, language)


def listed_for(text: str, owner: Owner, job: work.Job) -> Listed:
    """Return the Hub's models for a text, the suggestions for none. A stop ends the wait at once, even if the Hub does
    not answer."""
    if not text:
        return Listed(looked=inspect_machine())
    job.report(work.Bytes(say("picker.searching", text=text[:40]), 0, 0))
    search_job = work.Job().start(lambda _: search(text, owner))
    while not search_job.wait(work.EVERY):
        job.report(job.progress)
    if search_job.error is not None:
        raise search_job.error
    return Listed(text, tuple(search_job.result), inspect_machine())


def pick_stop(caller: Caller) -> None:
    """Stop waiting for the Hub."""
    work.stop(caller, "models")


def pick(caller: Caller, choice: Any, listed: Listed) -> tuple[str, str]:
    """Put the name that was clicked into the field, and show the facts of the model."""
    name = str(choice.get("name") if isinstance(choice, dict) else choice)
    found = next((model for model in listed.models if model.name == name), None)
    if found is None:
        raise UserError("picker.not_chosen", name=name[:80])
    model = found
    if listed.text is not None:
        closer = work.Job().start(lambda _: with_config_details(found, caller.owner))
        model = closer.result if closer.wait(LOOK_SECONDS) and closer.result else found
    return model.name, _model_facts(model, listed.looked or inspect_machine())


def _model_facts(model: Model, here: Here) -> str:
    ways = [_way(fit) for fit in fits(model, here)]
    return render("model_chosen", model=model, weights=weights_in_words, ways=ways, url=f"{endpoint()}/{model.name}")


def _way(fit: Any) -> str:
    way, word = say(f"picker.way_{fit.way}"), say(f"picker.{fit.word}")
    if fit.needed is None:
        return say("picker.chosen_way_bare", way=way, word=word)
    return say("picker.chosen_way", way=way, word=word, memory=f"{fit.needed / 1e9:.1f} GB")


def _table(listed: Listed, task: Any, size: Any, language: Any) -> str:
    for name, value, known in (("task", task, TASKS), ("size", size, SIZE_BOUNDS)):
        if value and str(value) not in known:
            what, choices = say(f"picker.{name}"), ", ".join(known)
            raise UserError("picker.unknown_choice", value=str(value)[:40], field=what, known=choices)
    here = listed.looked or inspect_machine()
    models = matching(listed.models, task or None, size or None, str(language or "") or None)
    rows = [(model, fits(model, here)) for model in models]
    usual = {"batch": USUAL_ROWS, "length": USUAL_LENGTH}
    return render("models", rows=rows, text=listed.text, here=here, weights=weights_in_words, **usual)
