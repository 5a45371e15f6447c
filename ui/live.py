"""A run as it is going: picked from the list, polled every two seconds, stopped and resumed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
import pandas as pd

from core.errors import UserError
from core.words import say
from finetune.launch.jobs import JobRecord, JobsLauncher, job_of, launcher_of
from finetune.launch.local import LocalLauncher
from finetune.plan.kept import outcome
from finetune.run import Run, find, list_runs
from ui import jobs, place, work
from ui.caller import Caller, handler
from ui.controls import button, dropdown, refreshed, textbox
from ui.language import Spoken, words
from ui.runs import follow, thinned
from ui.views import render, view
from ui.wiring import SHOWN, Page

LISTED = 50
LOG_LINES = 30
PARTS = 14


@dataclass
class Live:
    """The picker of runs, and how the view of the chosen one is drawn anew."""

    picker: gr.Dropdown
    wiring: tuple


@dataclass
class Buttons:
    """What is done with the chosen run. `agreed` is what the price of another job was told for."""

    picker: gr.Dropdown
    stop: gr.Button
    resume: gr.Button
    timeout: gr.Textbox
    answer: gr.HTML
    rent: gr.Button
    agreed: gr.State


def draw(page: Page) -> Live:
    """Draw the run's view and wire it."""
    with gr.Row(elem_classes="ts-start"):
        picker = dropdown("page.your_runs", scale=4, min_width=280, elem_id="runs")
        stop = button("page.stop_run", variant="stop", scale=1, min_width=110, visible=False, elem_id="stop-run")
        resume = button("page.resume_run", scale=1, min_width=110, visible=False, elem_id="resume-run")
        timeout = textbox("page.timeout_again", scale=1, min_width=200, visible=False, elem_id="resume-timeout")
    answer = view(elem_id="run-answer")
    rent = place.rent_button("rent-again").render()
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
    outputs = [seen, picker, state, stop, resume, timeout, rent, plots, *curves, samples, log_box, log]
    _wire(page, Buttons(picker, stop, resume, timeout, answer, rent, gr.State()), seen, outputs)
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


def _wire(page: Page, buttons: Buttons, seen: Any, outputs: list) -> None:
    picker, once = buttons.picker, {**SHOWN, "trigger_mode": "once"}
    picker.input(show, picker, outputs, **SHOWN)
    page.every_two_seconds(tick, [picker, seen], outputs)
    page.on_open(refresh, picker, picker, then=(show, picker, outputs))
    buttons.stop.click(stop_run, picker, buttons.answer, **once)
    wish, answers = [picker, buttons.timeout], [buttons.answer, buttons.rent, buttons.agreed]
    buttons.resume.click(resume_run, wish, answers, **once).success(tick, [picker, seen], outputs, **SHOWN)
    rented = buttons.rent.click(rent_again, [buttons.agreed, *wish], answers, **once)
    rented.success(show, picker, outputs, **SHOWN)


@handler(quiet=True)
def refresh(caller: Caller, chosen: str | None) -> Any:
    """The owner's runs, the newest chosen where none is. Their jobs elsewhere are looked for meanwhile."""
    jobs.find_again(caller.owner)
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
    """The run's word, as `Run.state`. The lock is looked at first: an ending is written under it."""
    alive = run.alive()
    return run.state(alive, follow(run).progress)


@handler(quiet=True)
def tick(caller: Caller, chosen: str | None, seen: str) -> list:
    """What changed since the last look; nothing is sent where nothing did."""
    return _view(caller, chosen, seen)


@handler()
def show(caller: Caller, chosen: str | None) -> list:
    """The whole view of a run."""
    return _view(caller, chosen, None)


def _view(caller: Caller, chosen: str | None, seen: str | None) -> list:
    came = jobs.arrivals(caller.owner)
    if not chosen:
        return _empty(caller, str(came or ""), seen)
    run = find(chosen, caller.owner)
    state = state_of(run)
    news = f"{follow(run).cursor} {jobs.stamp(run)}"
    now = f"{run.id} {state} {came} {news}"
    if now == seen:
        return [gr.skip()] * PARTS
    progress = follow(run).progress
    rented = jobs.rented(run)
    more = {"error": _error(run, state), "outcome": outcome(run, progress), **(rented or {})}
    html = render("run", run=run, state=state, about=_about(run), progress=progress, **more)
    samples = render("samples", samples=progress.samples)
    plots = [gr.update(visible=bool(progress.train)), *_curves(progress)]
    changed = not (seen or "").startswith(f"{run.id} {state} {came} ")
    listed = gr.update(choices=choices(caller), value=chosen) if changed else gr.skip()
    buttons = _buttons(state, rented, changed)
    return [now, listed, html, *buttons, *plots, samples, gr.update(visible=True), run.log_tail(LOG_LINES)]


def _empty(caller: Caller, now: str, seen: str | None) -> list:
    """The view of no run; the list is filled as soon as runs arrive from elsewhere."""
    if now == seen:
        return [gr.skip()] * PARTS
    listed = refreshed(choices(caller), None) if now else gr.skip()
    hidden = gr.update(visible=False)
    return [now, listed, nothing_yet(), *[hidden] * 5, *[None] * 3, "", hidden, ""]


def _buttons(state: str, rented: dict | None, changed: bool) -> list:
    """Stop, resume, the next job's time limit, and the yes to its price: that goes when the run changes."""
    again = state in ("stopped", "failed")
    more = gr.update(visible=again and rented is not None)
    if rented and changed:
        more["value"] = f"{rented['job'].timeout // 60}m"
    return [
        gr.update(visible=state in ("queued", "running")),
        gr.update(visible=again),
        more,
        gr.update(visible=False) if changed else gr.skip(),
    ]


def _error(run: Run, state: str) -> str | None:
    return run.status().error if state in ("failed", "fetching") else None


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
def stop_run(caller: Caller, chosen: str | None) -> Iterator[str]:
    """Ask the run to save a checkpoint and end."""
    run = find(chosen or "", caller.owner)
    yield from work.run(caller, "stop", lambda job: launcher_of(run, caller.owner).stop(run), str, str)
    yield render("note", kind="ts-warn", title="", text=say("page.stopping", run=run.id))


@handler()
def resume_run(caller: Caller, chosen: str | None, timeout: str | None) -> Iterator[tuple]:
    """Go on from the last checkpoint. A job is paid for anew: what it costs at most is told first."""
    run, hidden = find(chosen or "", caller.owner), gr.update(visible=False)
    record = job_of(run)
    if record is not None:
        yield from _ask(caller, run, record, timeout)
        return

    def resume(job: work.Job) -> None:
        LocalLauncher().resume(run, caller.owner, progress=job.report, stop=job.stop)

    yield from _follow(caller, resume)
    yield render("note", kind="ts-good", title="", text=say("page.resumed", run=run.id)), hidden, None


def _ask(caller: Caller, run: Run, record: JobRecord, timeout: str | None, why: str = "") -> Iterator[tuple]:
    """The checks and the price of a run's next job, and the button that says yes to both."""
    config = run.config().model_copy(update={"model": str(run.environment().get("base") or run.config().model)})
    limit = (timeout or "").strip() or str(record.timeout)
    offer = yield from _follow(caller, lambda job: place.preflight(caller.owner, config, record.flavour, limit, job))
    agreed = place.Agreed(place.same_wish(run.id, timeout), offer.flavour.usd_per_hour)
    yield place.told(offer, why), place.yes_to(offer), agreed


@handler()
def rent_again(caller: Caller, agreed: place.Agreed | None, chosen: str | None, timeout: str | None) -> Iterator[tuple]:
    """Go on in a new job: the one whose price was agreed to; where that changed, ask again."""
    run = find(chosen or "", caller.owner)
    usd_per_hour = place.agreed_price(agreed, run.id, timeout)
    record = job_of(run)
    assert record is not None, "only a job has a price"
    launcher = JobsLauncher(record.flavour, (timeout or "").strip() or record.timeout, caller.owner, usd_per_hour)
    try:
        yield from _follow(caller, lambda job: launcher.resume(run, caller.owner))
    except UserError as error:
        if not place.to_be_asked_again(error):
            raise
        yield from _ask(caller, run, record, timeout, str(error))
        return
    jobs.keep_up(run, caller.owner)
    text = render("note", kind="ts-good", title="", text=say("page.resumed", run=run.id))
    yield text, gr.update(visible=False), None


def _follow(caller: Caller, do: Any) -> Iterator[tuple]:
    rest = (gr.skip(), gr.skip())
    return (yield from work.run(caller, "resume", do, lambda text: (text, *rest), lambda: ("", *rest)))
