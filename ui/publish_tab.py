"""The Publish tab: choose a finished run and a repository, look at files and card, push, see the proof."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from core.errors import UserError
from core.words import say
from finetune.publish.plan import Plan, prepare
from finetune.publish.proof import prove, read_proof
from finetune.publish.proofcard import keep_in_card
from finetune.publish.push import push, read_push
from finetune.run import Run, find, list_runs
from ui import work
from ui.caller import Caller, handler
from ui.controls import button, dropdown, refreshed, textbox
from ui.language import Spoken, words
from ui.views import render, view
from ui.wiring import QUIET, SHOWN, Page


@dataclass
class Panel:
    """The tab's components. `seen` holds what the caller last looked at: the preview's fingerprint."""

    run: gr.Dropdown
    repo: gr.Textbox
    visibility: gr.Radio
    look: gr.Button
    push: gr.Button
    prove: gr.Button
    stop: gr.Button
    yes: gr.Checkbox
    progress: gr.HTML
    outcome: gr.HTML
    files: gr.HTML
    card: gr.Markdown
    seen: gr.State

    def target(self) -> list:
        return [self.run, self.repo, self.visibility]

    def plan(self) -> list:
        return [self.files, self.card, self.yes, self.push, self.seen]


def draw(page: Page) -> None:
    """Draw the tab and wire it."""
    panel = _draw()
    once = {**SHOWN, "trigger_mode": "once"}
    working = [panel.progress, panel.stop]
    panel.look.click(look, panel.target(), [*working, panel.outcome, *panel.plan()], **once)
    pushed = panel.push.click(send, [*panel.target(), panel.yes, panel.seen], [*working, panel.outcome], **once)
    pushed.success(offer_proof, panel.run, panel.prove, **SHOWN)
    panel.prove.click(prove_again, panel.run, [*working, panel.outcome], **once)
    panel.stop.click(stop, None, None, **QUIET)
    panel.run.change(show, panel.run, [panel.outcome, panel.prove, *panel.plan()], **SHOWN)
    page.tab.select(refresh, panel.run, panel.run, **QUIET)
    page.on_open(refresh, panel.run, panel.run, then=(show, panel.run, [panel.outcome, panel.prove, *panel.plan()]))


def _draw() -> Panel:
    with gr.Row(elem_classes="ts-start"):
        run = dropdown("publishing.run", scale=3, min_width=260, elem_id="publish-run")
        repo = textbox("publishing.repo", hint="publishing.repo_hint", scale=3, min_width=240, elem_id="publish-repo")
        visibility = gr.Radio(
            [(words("publishing.private"), "private"), (words("publishing.public"), "public")],
            value="private",
            label=words("publishing.visibility"),
            scale=3,
            min_width=320,
            elem_id="publish-visibility",
        )
        look_first = button("publishing.preview", variant="primary", scale=1, min_width=200, elem_id="publish-look")
    files = view(elem_id="publish-plan")
    with gr.Row(elem_classes="ts-start"):
        yes = gr.Checkbox(False, label=words("publishing.yes"), visible=False, elem_id="publish-yes")
        push_it = button("publishing.push", variant="primary", visible=False, elem_id="publish-push")
        again = button("publishing.prove", visible=False, elem_id="publish-prove")
    progress = view(elem_id="publish-progress")
    stop_it = button("page.stop", visible=False, variant="stop", size="sm", elem_id="publish-stop")
    outcome = view(elem_id="published")
    outcome.value = Spoken(_nothing_yet)
    card = gr.Markdown(visible=False, container=True, label=words("publishing.card"), elem_id="publish-card")
    seen = gr.State()
    return Panel(run, repo, visibility, look_first, push_it, again, stop_it, yes, progress, outcome, files, card, seen)


@handler(quiet=True)
def refresh(caller: Caller, chosen: str | None) -> Any:
    """The owner's finished runs, the newest chosen where none is."""
    done = [(_title(run), run.id) for run in list_runs(caller.owner) if _done(run)]
    return refreshed(done, chosen)


def _title(run: Run) -> str:
    """A run's id and model; the id alone where another version of the app wrote its config."""
    try:
        return f"{run.id} · {run.config().model}"
    except UserError:
        return run.id


def _done(run: Run) -> bool:
    return run.status().status == "done"


@handler(quiet=True)
def show(caller: Caller, chosen: str | None) -> tuple:
    """What is known of the run chosen: where it was published, and the proof."""
    if not chosen:
        return _nothing_yet(), gr.update(visible=False), *_no_plan()
    run = find(chosen, caller.owner)
    outcome = _outcome(run) or render("empty", title=say("publishing.ready"), text=say("publishing.ready_help"))
    return outcome, gr.update(visible=read_push(run) is not None), *_no_plan()


@handler()
def look(caller: Caller, chosen: str | None, repo: str, visibility: str) -> Iterator[tuple]:
    """The preview: every file, the card, what lies at the target. Nothing is sent."""
    nothing = (gr.skip(),) * 6
    busy = lambda text: (text, gr.update(visible=True), *nothing)  # noqa: E731
    idle = lambda: ("", gr.update(visible=False), gr.skip(), *_no_plan())  # noqa: E731
    plan = yield from work.run(caller, "look", lambda job: _plan(caller, chosen, repo, visibility, job), busy, idle)
    yield "", gr.update(visible=False), _outcome(plan.run), *_shown(plan)


@handler()
def send(
    caller: Caller, chosen: str | None, repo: str, visibility: str, yes: bool, seen: str | None
) -> Iterator[tuple]:
    """Push what was previewed, then fetch it back and prove it."""
    yield from _working(caller, lambda job: _send(caller, chosen, repo, visibility, yes, seen, job))


@handler()
def prove_again(caller: Caller, chosen: str | None) -> Iterator[tuple]:
    """Fetch the last push back once more."""
    yield from _working(caller, lambda job: _prove(caller, _chosen(caller, chosen), job))


@handler()
def offer_proof(caller: Caller, chosen: str | None) -> Any:
    """The button that repeats the proof, once there is something to prove."""
    return gr.update(visible=read_push(_chosen(caller, chosen)) is not None)


@handler()
def stop(caller: Caller) -> None:
    """End what is under way: the preview, the push or the proof."""
    work.stop(caller, "look")
    work.stop(caller, "publish")


def _working(caller: Caller, do: Any) -> Iterator[tuple]:
    busy = lambda text: (text, gr.update(visible=True), gr.skip())  # noqa: E731
    idle = lambda: ("", gr.update(visible=False), gr.skip())  # noqa: E731
    outcome = yield from work.run(caller, "publish", do, busy, idle)
    yield "", gr.update(visible=False), outcome


def _send(
    caller: Caller, chosen: str | None, repo: str, visibility: str, yes: bool, seen: str | None, job: work.Job
) -> str:
    plan = _plan(caller, chosen, repo, visibility, job)
    if seen != _fingerprint(plan):
        raise UserError("publishing.look_again")
    push(plan, caller.owner, confirmed=bool(yes), progress=job.report, stop=job.stop)
    return _prove(caller, plan.run, job)


def _prove(caller: Caller, run: Run, job: work.Job) -> str:
    """The outcome with its proof; where the proof could not be made, what was pushed is shown all the same."""
    pushed = read_push(run)
    if pushed is None:
        raise UserError("publishing.choose_run")
    proof = None
    try:
        proof = prove(run, pushed.repo_id, pushed.commit, caller.owner, job.report, job.stop)
        if proof.ok:
            keep_in_card(run, proof, caller.owner, job.report, stop=job.stop)
    except UserError as error:
        return render("published", pushed=pushed, proof=proof, trouble=str(error))
    return _outcome(run)


def _plan(caller: Caller, chosen: str | None, repo: str, visibility: str, job: work.Job) -> Plan:
    run = _chosen(caller, chosen)
    job.report(None)
    return prepare(run, (repo or "").strip(), caller.owner, private=visibility != "public")


def _chosen(caller: Caller, chosen: str | None) -> Run:
    if not chosen:
        raise UserError("publishing.choose_run")
    return find(chosen, caller.owner)


def _outcome(run: Run) -> str:
    """Where the run lies on the Hub, with the proof of that push; empty where it was never published."""
    pushed, proof = read_push(run), read_proof(run)
    if pushed is None:
        return ""
    if proof is not None and proof.revision != pushed.commit:
        proof = None
    return render("published", pushed=pushed, proof=proof, trouble=None)


def _shown(plan: Plan) -> tuple:
    foreign = gr.update(visible=plan.needs_yes, value=False)
    card = gr.update(value=_readable(plan.card), visible=True)
    return render("plan", plan=plan), card, foreign, gr.update(visible=True), _fingerprint(plan)


def _no_plan() -> tuple:
    hidden = gr.update(visible=False)
    return "", gr.update(value="", visible=False), gr.update(visible=False, value=False), hidden, None


def _readable(card: str) -> str:
    """The card with its metadata as a block of code, as a person reads it."""
    return re.sub(r"\A---\n(.*?)\n---\n", r"```yaml\n\1\n```\n", card, flags=re.DOTALL)


def _fingerprint(plan: Plan) -> str:
    """What must not change between the preview and the push: target, visibility, every file, and what lies there."""
    seen = [plan.run.id, plan.repo_id, str(plan.private), str(plan.found.commit)]
    return "\n".join([*seen, *(file.sha256 for file in plan.files)])


def _nothing_yet() -> str:
    return render("empty", title=say("publishing.empty"), text=say("publishing.empty_help"))
