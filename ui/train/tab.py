"""The Fine-tune tab: data and settings on top, one button to start, the run below, live."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from core import settings
from core.errors import UserError
from core.words import say
from finetune.config.run_config import ConfigKnob, RunConfig, knobs, to_yaml
from finetune.launch.jobs.launcher import JobsLauncher
from finetune.launch.local.launcher import LocalLauncher
from finetune.objectives import OBJECTIVES
from finetune.runs.run import find
from ui.data.datasets import choices as dataset_choices
from ui.parts import job as work
from ui.parts import model_picker
from ui.parts.controls import button, dropdown, upload_button
from ui.parts.views import render, view
from ui.parts.wiring import NEWEST, QUIET, SHOWN, Page, Parts, by_name
from ui.train import fill_form as filling
from ui.train import form, jobs, plan_card, run_view, stages_form, where_to_run
from ui.train.knob_fields import group
from ui.train.stages_form import StageFields
from ui.web.handler import Caller, handler
from ui.web.language import words

PRICED = ("model", "limits.max_length", "optim.epochs")
"""The fields of the first row on which the rough price depends most."""


FIRST_OBJECTIVE = next(iter(OBJECTIVES))


@dataclass
class Setup:
    """The components above the run: data, settings, buttons, and their answers."""

    datasets: gr.Dropdown
    form: form.Form
    filling: filling.Filling
    start: gr.Button
    check: gr.Button
    plan: gr.Button
    stop: gr.Button
    answer: gr.HTML
    show: gr.Button
    yaml: gr.Code
    command: gr.Code
    run_on: where_to_run.WhereToRun

    def inputs(self) -> Parts:
        """Return where the run shall run, the data and the form."""
        return {**self.run_on.inputs(), "datasets": self.datasets, **self.form.inputs}


def draw(page: Page) -> None:
    """Draw the tab and wire it."""
    setup = _draw_setup()
    runs = run_view.draw(page)
    page.datasets.append(setup.datasets)
    _wire_buttons(setup, runs)
    _wire_form(page, setup)
    stages_form.wire(page, setup.form.stages, setup.datasets)
    _wire_place(page, setup)
    page.tab.select(refresh, setup.datasets, setup.datasets, **QUIET)


def _draw_setup() -> Setup:
    known = knobs()
    with gr.Row(elem_classes="ts-start"):
        datasets = dropdown("page.train_on", multiselect=True, scale=4, min_width=280, elem_id="train-on")
        objective = stages_form.draw_objective("objective", FIRST_OBJECTIVE)
        preset = filling.draw_preset()
    with gr.Row(elem_classes="ts-start"):
        where = where_to_run.draw_choice()
        start = button("page.start", variant="primary", scale=1, min_width=140, elem_id="start")
        check = button("page.check", scale=1, min_width=110, elem_id="check")
        plan = button("page.plan", scale=1, min_width=110, elem_id="plan")
        stop = button("page.stop", variant="stop", visible=False, scale=1, min_width=110)
    note = view(elem_id="objective-note")
    kept = filling.draw_kept()
    rented = where_to_run.draw_machine(where)
    answer = view(elem_id="train-answer")
    rented.rent.render()
    with gr.Column(elem_id="settings") as box:
        drawn = _draw_form(known, objective, note)
    with gr.Accordion(words("page.as_yaml"), open=False, elem_id="as-yaml"):
        with gr.Row():
            show = button("page.show_yaml", size="sm", elem_id="show-yaml")
            upload = upload_button("page.upload_yaml", size="sm", file_types=[".yaml", ".yml"], elem_id="upload-yaml")
        yaml = gr.Code(language="yaml", label=words("page.yaml"), interactive=False, visible=False, max_lines=24)
        command = gr.Code(language="shell", label=words("page.command"), interactive=False, visible=False)
    whole = filling.Filling(datasets, drawn, preset, upload, box, kept, answer, stop, yaml)
    return Setup(datasets, drawn, whole, start, check, plan, stop, answer, show, yaml, command, rented)


def _draw_form(known: list[ConfigKnob], objective: gr.Dropdown, note: gr.HTML) -> form.Form:
    """Draw the settings: eight in view, the others and further stages folded."""
    fields = form.draw_basic(known)
    model_picker.draw(fields["model"], "train")
    with gr.Accordion(words("page.more_settings"), open=False, elem_id="more-settings"):
        with group("objective"):
            first = StageFields(objective, stages_form.draw_settings("first", FIRST_OBJECTIVE), note)
        fields |= form.draw_advanced(known)
    with gr.Accordion(words("page.further_stages"), open=False, elem_id="further-stages"):
        further = stages_form.draw_further()
    ordered = {knob.path: fields[knob.path] for knob in known}
    return form.Form(known, ordered, stages_form.Stages(first, further), gr.State())


def _wire_buttons(setup: Setup, runs: run_view.RunView) -> None:
    once, rented = {**SHOWN, "trigger_mode": "once"}, setup.run_on
    inputs = setup.inputs()
    answers: Parts = {"answer": setup.answer, "stop": setup.stop, "rent": rented.rent}
    outputs: Parts = {"answer": setup.answer, "stop": setup.stop, "picker": runs.picker}
    outputs |= {"rent": rented.rent, "agreed": rented.agreed}
    setup.start.click(**by_name(start, inputs, outputs), **once).success(**runs.wiring, **SHOWN)
    renting = by_name(rent, {"agreed": rented.agreed, **inputs}, outputs)
    rented.rent.click(**renting, **once).success(**runs.wiring, **SHOWN)
    setup.check.click(**by_name(check, inputs, answers), **once)
    setup.plan.click(**by_name(plan, inputs, answers), **once)
    setup.stop.click(stop, None, None, **QUIET)


def _wire_place(page: Page, setup: Setup) -> None:
    """Wire the choice of machine: prices are looked up when a rented machine is chosen, and again when the run's
    settings change."""
    fields, pricing = setup.form.fields, by_name(reprice, setup.inputs(), setup.run_on.table)
    choosing = by_name(choose_place, setup.inputs(), {"box": setup.run_on.box, **setup.run_on.shown()})
    choosing |= {**NEWEST, "show_progress": "minimal", "show_progress_on": setup.run_on.table}
    setup.run_on.where.input(**choosing)
    for changed in (setup.run_on.flavor.input, setup.datasets.input, *(fields[path].blur for path in PRICED)):
        changed(**pricing, **NEWEST)
    if settings.zero_gpu():
        page.tab.select(**choosing)


def _wire_form(page: Page, setup: Setup) -> None:
    hidden = {knob.path: setup.form.fields[knob.path] for knob in setup.form.conditional()}
    for path in {knob.shown_when[0] for knob in setup.form.conditional() if knob.shown_when}:
        setup.form.fields[path].change(**by_name(choose_method, setup.form.fields[path], hidden), **SHOWN)
    setup.show.click(**by_name(show_yaml, setup.inputs(), [setup.yaml, setup.command]), **SHOWN)
    setup.filling.wire()
    page.on_open(refresh, setup.datasets, setup.datasets)


@handler(quiet=True)
def refresh(caller: Caller, chosen: list[str] | None) -> Any:
    """List the owner's datasets; choose the newest if none is chosen."""
    found = dataset_choices(caller)
    known = [value for _, value in found]
    if chosen and set(chosen) <= set(known):
        return gr.update(choices=found)
    return gr.update(choices=found, value=[value for value in chosen or [] if value in known] or known[:1])


@handler()
def choose_method(caller: Caller, method: str) -> dict[str, Any]:
    """Show only the settings of the method chosen."""
    return form.visibility({"method": method})


@handler()
def choose_place(
    caller: Caller, *, where: str, flavor: str | None, timeout: str, datasets: list[str] | None, **values: Any
) -> dict[str, Any]:
    """Show the rented machines with their prices, where one is wanted."""
    if where != where_to_run.RENTED:
        return {"box": gr.update(visible=False), "rent": gr.update(visible=False)}
    return {"box": gr.update(visible=True), **where_to_run.offer(caller.owner, flavor, datasets, values)}


@handler()
def reprice(
    caller: Caller, *, where: str, flavor: str | None, timeout: str, datasets: list[str] | None, **values: Any
) -> Any:
    """Show the prices for what shall run now, where prices are shown. Nothing else: a choice made meanwhile stands."""
    return (
        where_to_run.offer(caller.owner, flavor, datasets, values)["table"]
        if where == where_to_run.RENTED
        else gr.skip()
    )


@handler()
def start(
    caller: Caller, *, where: str, flavor: str | None, timeout: str, datasets: list[str], **values: Any
) -> Iterator[dict]:
    """Start a detached run; show what takes time before that, which can be stopped.

    On a rented machine nothing starts yet: the maximum cost is shown first.
    """
    config = form.read(datasets, values)
    if where == where_to_run.RENTED:
        yield from _ask(caller, config, flavor, timeout, where_to_run.fingerprint(flavor, timeout, datasets, values))
        return

    def begin(job: work.Job) -> str:
        return LocalLauncher().start(config, caller.owner, progress=job.report, stop=job.stop)

    run = yield from _follow(caller, begin)
    yield _begun(caller, run, say("page.started", run=run))


def _begun(caller: Caller, run: str, text: str) -> dict[str, Any]:
    """Return what is shown of a run that was started."""
    picker = gr.update(choices=run_view.choices(caller), value=run)
    note = render("note", kind="ts-good", title="", text=text)
    return {**_answered(note), "picker": picker, "agreed": None}


def _answered(answer: str) -> dict[str, Any]:
    """Return an answer with which nothing is left to be stopped or paid."""
    return {"answer": answer, "stop": gr.update(visible=False), "rent": gr.update(visible=False)}


def _ask(
    caller: Caller, config: RunConfig, flavor: str | None, timeout: str, wish: str, why: str = ""
) -> Iterator[dict]:
    """Show the checks and the price of a job, and the button that says yes to both."""
    offer = yield from _follow(caller, lambda job: where_to_run.preflight(caller.owner, config, flavor, timeout, job))
    agreed = where_to_run.Agreed(wish, offer.flavor.usd_per_hour)
    yield {**_answered(where_to_run.offer_html(offer, why)), "rent": where_to_run.confirmation(offer), "agreed": agreed}


@handler()
def rent(
    caller: Caller,
    *,
    agreed: where_to_run.Agreed | None,
    where: str,
    flavor: str | None,
    timeout: str,
    datasets: list[str],
    **values: Any,
) -> Iterator[dict]:
    """Start the run as a job with the confirmed settings and price; if the price changed, ask again."""
    usd_per_hour = where_to_run.agreed_price(agreed, flavor, timeout, datasets, values)
    config = form.read(datasets, values)
    launcher = JobsLauncher(flavor or "", timeout, caller.owner, usd_per_hour)

    def begin(job: work.Job) -> str:
        return launcher.start(config, caller.owner, progress=job.report, stop=job.stop)

    try:
        run = yield from _follow(caller, begin)
    except UserError as error:
        if not where_to_run.price_changed(error):
            raise
        wish = where_to_run.fingerprint(flavor, timeout, datasets, values)
        yield from _ask(caller, config, flavor, timeout, wish, str(error))
        return
    jobs.keep_up(find(run, caller.owner), caller.owner)
    yield _begun(caller, run, say("page.rented", run=run))


@handler()
def check(
    caller: Caller, *, where: str, flavor: str | None, timeout: str, datasets: list[str], **values: Any
) -> Iterator[dict]:
    """Check data, model and settings together, and the requirements of a rented machine; nothing starts."""
    config = form.read(datasets, values)
    if where == where_to_run.RENTED:
        offer = yield from _follow(
            caller, lambda job: where_to_run.preflight(caller.owner, config, flavor, timeout, job)
        )
        yield _answered(where_to_run.offer_html(offer))
        return
    found = yield from _follow(caller, lambda job: plan_card.look(caller.owner, config, job, trial=False))
    yield _answered(plan_card.plan_html(*found))


@handler()
def plan(
    caller: Caller, *, where: str, flavor: str | None, timeout: str, datasets: list[str], **values: Any
) -> Iterator[dict]:
    """Estimate the run here and on rented machines, after a trial of its first steps here."""
    config = form.read(datasets, values)
    found = yield from _follow(caller, lambda job: plan_card.look(caller.owner, config, job, trial=True))
    yield _answered(plan_card.plan_html(*found))


def _follow(caller: Caller, begin: Any) -> Generator[dict, None, Any]:
    busy = lambda text: {"answer": text, "stop": gr.update(visible=True)}  # noqa: E731
    idle = lambda: {"answer": "", "stop": gr.update(visible=False)}  # noqa: E731
    return (yield from work.run(caller, "train", begin, busy, idle))


@handler()
def stop(caller: Caller) -> None:
    """Stop the download or the check before a start."""
    work.stop(caller, "train")


@handler()
def show_yaml(
    caller: Caller, *, where: str, flavor: str | None, timeout: str, datasets: list[str], **values: Any
) -> tuple:
    """Show the form as YAML, and the shell command for the same run on the same machine."""
    text = to_yaml(form.read(datasets, values))
    command = say("page.command_text", place=where_to_run.options(where, flavor, timeout))
    return gr.update(value=text, visible=True), gr.update(value=command, visible=True)
