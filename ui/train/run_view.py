"""The live view of a run: chosen from the list, polled every two seconds, stopped and resumed."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from core.errors import UserError
from core.words import say
from finetune.launch.jobs.launcher import JobRecord, JobsLauncher, job_of, launcher_of
from finetune.launch.keep_checkpoint import has_checkpoint, keep
from finetune.launch.local.launcher import LocalLauncher
from finetune.plan.record import outcome
from finetune.runs.run import Run, find, list_runs
from finetune.runs.stage_report import reports
from ui.parts import job as work
from ui.parts.controls import button, dropdown, refreshed, textbox
from ui.parts.views import render, view
from ui.parts.wiring import NEWEST, SHOWN, Page, Parts, by_name
from ui.train import jobs, where_to_run
from ui.train import plots as curves
from ui.train.follow import follow
from ui.web.handler import Caller, handler
from ui.web.language import Spoken, words

LISTED = 50
LOG_LINES = 30


@dataclass
class RunView:
    """The picker of runs, and the event that redraws the view of the chosen one."""

    picker: gr.Dropdown
    wiring: dict[str, Any]


@dataclass
class Buttons:
    """The actions on the chosen run. `agreed` records the settings and the price of the next job that were shown."""

    picker: gr.Dropdown
    stop: gr.Button
    resume: gr.Button
    keep: gr.Button
    timeout: gr.Textbox
    answer: gr.HTML
    rent: gr.Button
    agreed: gr.State

    def shown(self) -> Parts:
        """Return the components that `_buttons` fills."""
        return {name: getattr(self, name) for name in ("stop", "resume", "keep", "timeout", "rent")}


def draw(page: Page) -> RunView:
    """Draw the run's view and wire it."""
    with gr.Row(elem_classes="ts-start"):
        picker = dropdown("page.your_runs", scale=4, min_width=280, elem_id="runs")
        stop = button("page.stop_run", variant="stop", scale=1, min_width=110, visible=False, elem_id="stop-run")
        resume = button("page.resume_run", scale=1, min_width=110, visible=False, elem_id="resume-run")
        keep = button("page.keep_result", scale=1, min_width=190, visible=False, elem_id="keep-result")
        timeout = textbox("page.timeout_again", scale=1, min_width=200, visible=False, elem_id="resume-timeout")
    answer = view(elem_id="run-answer")
    rent = where_to_run.rent_button("rent-again").render()
    state = view(elem_id="run-state")
    state.value = Spoken(nothing_yet)
    plots = curves.draw()
    samples = view(elem_id="samples")
    with gr.Accordion(words("page.log"), open=False, visible=False) as log_box:
        log = gr.Textbox(show_label=False, lines=12, max_lines=12, interactive=False, elem_id="log", buttons=["copy"])
    buttons = Buttons(picker, stop, resume, keep, timeout, answer, rent, gr.State())
    outputs: Parts = {"seen": gr.State(""), "picker": picker, "state": state, **buttons.shown(), **plots}
    outputs |= {"samples": samples, "log_box": log_box, "log": log}
    showing = by_name(show, picker, outputs)
    _wire(page, buttons, showing, by_name(tick, [picker, outputs["seen"]], outputs))
    page.runs.append(picker)
    return RunView(picker, showing)


def _wire(page: Page, buttons: Buttons, showing: dict[str, Any], ticking: dict[str, Any]) -> None:
    picker, once = buttons.picker, {**SHOWN, "trigger_mode": "once"}
    picker.input(**showing, **NEWEST)
    page.every_two_seconds(**ticking)
    page.on_open(refresh, picker, picker, then=showing)
    buttons.stop.click(stop_run, picker, buttons.answer, **once)
    wish, answers = [picker, buttons.timeout], [buttons.answer, buttons.rent, buttons.agreed]
    buttons.resume.click(resume_run, wish, answers, **once).success(**ticking, **SHOWN)
    buttons.keep.click(keep_result, picker, buttons.answer, **once).success(**showing, **SHOWN)
    rented = buttons.rent.click(rent_again, [buttons.agreed, *wish], answers, **once)
    rented.success(**showing, **SHOWN)


@handler(quiet=True)
def refresh(caller: Caller, chosen: str | None) -> Any:
    """List the owner's runs; choose the newest if none is chosen. Their jobs elsewhere are looked up meanwhile."""
    jobs.find_again(caller.owner)
    return refreshed(choices(caller), chosen)


def choices(caller: Caller, *, finished: bool = False) -> list[tuple[str, str]]:
    """Return the owner's runs for a dropdown, newest first; `finished`: only those with a result."""
    found = []
    for run in list_runs(caller.owner)[:LISTED]:
        progress = follow(run).progress
        if finished and progress.ending != "done":
            continue
        found.append((f"{run.id} · {_about(run)} · {say(f'run.status.{state_of(run)}')}", run.id))
    return found


def _about(run: Run) -> str:
    """Return a run's model and method; a dash if another version of the program wrote its config."""
    try:
        config = run.config()
    except UserError:
        return "–"
    return f"{config.model.rstrip('/').rsplit('/', 1)[-1]} · {config.method}"


def state_of(run: Run) -> str:
    """Return the run's state, as `Run.state`. The lock is checked first: an ending is written under it."""
    alive = run.alive()
    return run.state(alive, follow(run).progress)


@handler(quiet=True)
def tick(caller: Caller, chosen: str | None, seen: str) -> dict[str, Any]:
    """Show what changed since the last look; nothing is sent where nothing did."""
    return _view(caller, chosen, seen)


@handler()
def show(caller: Caller, chosen: str | None) -> dict[str, Any]:
    """Show the whole view of a run."""
    return _view(caller, chosen, None)


def _view(caller: Caller, chosen: str | None, seen: str | None) -> dict[str, Any]:
    arrived = jobs.arrivals(caller.owner)
    if not chosen:
        return _empty(caller, str(arrived or ""), seen)
    run = find(chosen, caller.owner)
    state = state_of(run)
    news = f"{follow(run).cursor} {jobs.stamp(run)}"
    now = f"{run.id} {state} {arrived} {news}"
    if now == seen:
        return {}
    progress = follow(run).progress
    rented = jobs.rented(run)
    more = {"error": _error(run, state), "outcome": outcome(run, progress), "reports": reports(progress)}
    html = render("run", run=run, state=state, about=_about(run), progress=progress, **more, **(rented or {}))
    changed = not (seen or "").startswith(f"{run.id} {state} {arrived} ")
    return {
        "seen": now,
        **({"picker": gr.update(choices=choices(caller), value=chosen)} if changed else {}),
        "state": html,
        **_buttons(run, state, rented, changed),
        **curves.shown(progress),
        "samples": render("samples", samples=progress.samples),
        "log_box": gr.update(visible=True),
        "log": run.log_tail(LOG_LINES),
    }


def _empty(caller: Caller, now: str, seen: str | None) -> dict[str, Any]:
    """Return the view of no run; the list is filled as soon as runs arrive from elsewhere."""
    if now == seen:
        return {}
    listed = {"picker": refreshed(choices(caller), None)} if now else {}
    hidden = dict.fromkeys(("stop", "resume", "keep", "timeout", "rent", "log_box"), gr.update(visible=False))
    return {"seen": now, **listed, "state": nothing_yet(), **hidden, **curves.hidden(), "samples": "", "log": ""}


def _buttons(run: Run, state: str, rented: dict | None, changed: bool) -> dict[str, Any]:
    """Return the state of the buttons and of the next job's time limit. The yes to a price goes when the run
    changes."""
    again = state in ("stopped", "failed")
    more = gr.update(visible=again and rented is not None)
    if rented and changed:
        more["value"] = f"{rented['job'].timeout // 60}m"
    return {
        "stop": gr.update(visible=state in ("queued", "running")),
        "resume": gr.update(visible=again),
        "keep": gr.update(visible=again and has_checkpoint(run)),
        "timeout": more,
        **({"rent": gr.update(visible=False)} if changed else {}),
    }


def _error(run: Run, state: str) -> str | None:
    return run.status().error if state in ("failed", "fetching") else None


def nothing_yet() -> str:
    """Return what the view shows before there is any run."""
    return render("empty", title=say("page.no_run"), text=say("page.no_run_help"))


@handler()
def stop_run(caller: Caller, chosen: str | None) -> Iterator[str]:
    """Ask the run to save a checkpoint and end."""
    run = find(chosen or "", caller.owner)
    yield from work.run(caller, "stop", lambda job: launcher_of(run, caller.owner).stop(run), str, str)
    yield render("note", kind="ts-warn", title="", text=say("page.stopping", run=run.id))


@handler()
def keep_result(caller: Caller, chosen: str | None) -> Iterator[str]:
    """Make the last checkpoint the run's result."""
    run = find(chosen or "", caller.owner)
    step = yield from work.run(caller, "resume", lambda job: keep(run, caller.owner, job.report, job.stop), str, str)
    yield render("note", kind="ts-good", title="", text=say("page.kept_result", run=run.id, step=step))


@handler()
def resume_run(caller: Caller, chosen: str | None, timeout: str | None) -> Iterator[tuple]:
    """Resume from the last checkpoint. A job is paid for anew: its maximum cost is shown first."""
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
    """Show the checks and the price of a run's next job, and the button that confirms both."""
    config = run.config().model_copy(update={"model": str(run.environment().get("base") or run.config().model)})
    limit = (timeout or "").strip() or str(record.timeout)
    offer = yield from _follow(
        caller, lambda job: where_to_run.preflight(caller.owner, config, record.flavour, limit, job)
    )
    agreed = where_to_run.Agreed(where_to_run.fingerprint(run.id, timeout), offer.flavor.usd_per_hour)
    yield where_to_run.offer_html(offer, why), where_to_run.confirmation(offer), agreed


@handler()
def rent_again(
    caller: Caller, agreed: where_to_run.Agreed | None, chosen: str | None, timeout: str | None
) -> Iterator[tuple]:
    """Resume in a new job at the confirmed price; if the price changed, ask again."""
    run = find(chosen or "", caller.owner)
    usd_per_hour = where_to_run.agreed_price(agreed, run.id, timeout)
    record = job_of(run)
    assert record is not None, "only a job has a price"
    launcher = JobsLauncher(record.flavour, (timeout or "").strip() or record.timeout, caller.owner, usd_per_hour)
    try:
        yield from _follow(caller, lambda job: launcher.resume(run, caller.owner))
    except UserError as error:
        if not where_to_run.price_changed(error):
            raise
        yield from _ask(caller, run, record, timeout, str(error))
        return
    jobs.keep_up(run, caller.owner)
    text = render("note", kind="ts-good", title="", text=say("page.resumed", run=run.id))
    yield text, gr.update(visible=False), None


def _follow(caller: Caller, do: Any) -> Generator[tuple, None, Any]:
    rest = (gr.skip(), gr.skip())
    return (yield from work.run(caller, "resume", do, lambda text: (text, *rest), lambda: ("", *rest)))
