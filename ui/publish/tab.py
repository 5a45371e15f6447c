"""The Publish tab: choose what to publish and where, preview files and card, edit the card, push, verify."""

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from core.errors import UserError
from core.words import say
from finetune.publish.kinds import KINDS
from finetune.publish.proof.in_card import keep_in_card
from finetune.publish.proof.proof import prove, read_proof
from finetune.publish.push import push
from finetune.publish.repo.records import read_push
from finetune.runs.run import Run, list_runs
from ui.data import datasets
from ui.parts import job as work
from ui.parts.controls import button, refreshed, textbox
from ui.parts.views import render, view
from ui.parts.wiring import NEWEST, QUIET, SHOWN, Page, Parts, by_name
from ui.publish import form as publish_form
from ui.publish.request import Order, Preview, forget, is_full, keep, kept, look
from ui.web.handler import Caller, handler
from ui.web.language import Spoken, words

if TYPE_CHECKING:
    from finetune.data.store import Dataset


@dataclass
class PublishPanel:
    """The tab's components. `seen` holds the id of the preview that the caller last looked at."""

    fields: publish_form.Fields
    push: gr.Button
    prove: gr.Button
    stop: gr.Button
    yes: gr.Checkbox
    progress: gr.HTML
    outcome: gr.HTML
    files: gr.HTML
    editor: gr.Accordion
    text: gr.Textbox
    card: gr.Markdown
    seen: gr.State

    def outcomes(self) -> Parts:
        """Return the components that long work fills: its progress, its stop button and its outcome."""
        return {"progress": self.progress, "stop": self.stop, "outcome": self.outcome}

    def working(self) -> Parts:
        """Return the components that `send` fills."""
        return self.outcomes() | self.plan()

    def plan(self) -> Parts:
        """Return the components that `_shown` and `_no_plan` fill."""
        names = ("files", "editor", "text", "card", "yes", "push", "seen")
        return {name: getattr(self, name) for name in names}

    def view(self) -> Parts:
        """Return the components that `show_kind` fills."""
        fields = {"kind": self.fields.kind, **self.fields.changing()}
        return fields | {"outcome": self.outcome, "prove": self.prove, **self.plan()}


def draw(page: Page) -> None:
    """Draw the tab and wire it."""
    panel = _draw()
    fields, once = panel.fields, {**SHOWN, "trigger_mode": "once"}
    order = fields.inputs()
    fields.look.click(
        **by_name(preview, order, {**panel.outcomes(), "license": fields.license, **panel.plan()}), **once
    )
    sending: Parts = {"card": panel.text, "yes": panel.yes, "seen": panel.seen, **order}
    sent = panel.push.click(**by_name(send, sending, panel.working()), **once)
    sent.success(**by_name(offer_proof, order, panel.prove), **SHOWN)
    panel.prove.click(**by_name(prove_again, order, panel.outcomes()), **once)
    panel.stop.click(stop, None, None, **QUIET)
    panel.text.blur(read_card, panel.text, panel.card, **SHOWN)
    chosen = [fields.kind, fields.run, fields.dataset, fields.license]
    fields.kind.input(**by_name(show_kind, chosen, panel.view()), **NEWEST)
    fields.run.change(**by_name(show_run, chosen, panel.view()), **SHOWN)
    fields.dataset.change(**by_name(show_dataset, chosen, panel.view()), **SHOWN)
    lists = [fields.run, fields.dataset]
    page.tab.select(refresh, lists, lists, **QUIET)
    page.on_open(refresh, lists, lists, then=by_name(show_kind, chosen, panel.view()))


def _draw() -> PublishPanel:
    fields = publish_form.draw()
    files = view(elem_id="publish-plan")
    with gr.Row(elem_classes="ts-start"):
        yes = gr.Checkbox(False, label=words("publishing.yes"), visible=False, elem_id="publish-yes")
        push_it = button("publishing.push", variant="primary", visible=False, elem_id="publish-push")
        again = button("publishing.prove", visible=False, elem_id="publish-prove")
    progress = view(elem_id="publish-progress")
    stop_it = button("page.stop", visible=False, variant="stop", size="sm", elem_id="publish-stop")
    outcome = view(elem_id="published")
    outcome.value = Spoken(_nothing_yet)
    with gr.Accordion(words("publishing.edit"), open=False, visible=False, elem_id="publish-edit") as editor:
        text = textbox(
            "publishing.card_text",
            help="publishing.card_text_help",
            lines=16,
            max_lines=40,
            elem_id="publish-text",
            elem_classes="ts-code",
        )
    card = gr.Markdown(visible=False, container=True, label=words("publishing.card"), elem_id="publish-card")
    seen = gr.State()
    return PublishPanel(fields, push_it, again, stop_it, yes, progress, outcome, files, editor, text, card, seen)


@handler(quiet=True)
def refresh(caller: Caller, run: str | None, dataset: str | None) -> tuple:
    """List the owner's finished runs and datasets; choose the newest if none is chosen."""
    done = [(_title(run), run.id) for run in list_runs(caller.owner) if run.status().status == "done"]
    return refreshed(done, run), refreshed(datasets.choices(caller), dataset)


def _title(run: Run) -> str:
    """Return a run's id and model; the id alone if another version of the app wrote its config."""
    try:
        return f"{run.id} · {run.config().model}"
    except UserError:
        return run.id


@handler(quiet=True)
def show_kind(caller: Caller, *chosen: Any) -> dict[str, Any]:
    """Show the fields of a kind, and where its subject was published, with the verification."""
    return _view(caller, *chosen)


@handler(quiet=True)
def show_run(caller: Caller, *chosen: Any) -> dict[str, Any]:
    """Show the same for another run, unless a dataset is published."""
    return _view(caller, *chosen) if KINDS[chosen[0]].subject == "run" else {}


@handler(quiet=True)
def show_dataset(caller: Caller, *chosen: Any) -> dict[str, Any]:
    """Show the same for another dataset, if one is published. Both lists are filled at once: an answer for the run
    given at that moment would be out of date."""
    return _view(caller, *chosen) if KINDS[chosen[0]].subject == "dataset" else {}


def _view(caller: Caller, kind: str, run: str | None, dataset: str | None, license_text: str | None) -> dict[str, Any]:
    """Return the view of a kind. For a run that trained every weight, which has no adapter, the full model is
    offered. Of a run or dataset that was deleted meanwhile, the view says so."""
    missing = ""
    try:
        subject = _chosen(caller, kind, run, dataset)
    except UserError as error:
        subject, missing = None, render("note", kind="ts-warn", title="", text=str(error))
    known = kind
    if kind == "adapter" and isinstance(subject, Run) and is_full(subject):
        known = "merged"
    fields = publish_form.shown_for(known, license_text, bool(caller.owner.token))
    waiting = render("empty", title=say("publishing.ready"), text=say("publishing.ready_help"))
    outcome = (_outcome(subject, known) or waiting) if subject else missing or _nothing_yet()
    prove_it = gr.update(visible=subject is not None and read_push(subject, known) is not None)
    changed = {} if known == kind else {"kind": known}
    return {**changed, **fields, "outcome": outcome, "prove": prove_it, **_no_plan()}


def _chosen(caller: Caller, kind: str, run: str | None, dataset: str | None) -> "Run | Dataset | None":
    if not (dataset if KINDS[kind].subject == "dataset" else run):
        return None
    return Order.typed(kind, run=run, dataset=dataset).subject(caller.owner)


@handler()
def preview(caller: Caller, **values: Any) -> Iterator[dict]:
    """Build the files, and show every file, the card and the target's present state. Nothing is sent."""
    order = Order.typed(**values)
    forget(caller)
    busy = lambda text: {"progress": text, "stop": gr.update(visible=True)}  # noqa: E731
    idle = lambda: {"progress": "", "stop": gr.update(visible=False), **_no_plan()}  # noqa: E731
    found = yield from work.run(caller, "look", lambda job: look(order, caller, job), busy, idle)
    keep(caller, found)
    unknown = not found.plan.license.key and found.plan.to.repo_type != "space"
    license_update = gr.update(visible=unknown or bool(order.license) or order.kind == "dataset")
    outcome = _outcome(found.plan.run, order.kind)
    yield {**_over(outcome), "license": license_update, **_shown(found)}


@handler()
def send(caller: Caller, *, card: str, yes: bool, seen: str | None, **values: Any) -> Iterator[dict]:
    """Push what was previewed, with the card as the person left it, then verify it."""
    order, looked_at = Order.typed(**values), kept(caller, seen or "")
    if looked_at is None:
        raise UserError("publishing.look_again")
    pushed = yield from _follow(caller, lambda job: _push(looked_at, order, caller, card, bool(yes), job))
    plan: dict[str, Any] = {
        "files": render("plan", plan=pushed, sent=True),
        "yes": gr.update(visible=False, value=False),
    }
    plan |= {"push": gr.update(visible=False), "seen": None}
    yield {**plan, "progress": "", "stop": gr.update(visible=True), "outcome": _outcome(pushed.run, order.kind)}
    outcome = yield from _follow(caller, lambda job: _prove(caller, pushed.run, order.kind, job))
    yield {**plan, **_over(outcome)}


def _push(looked_at: Preview, order: Order, caller: Caller, card: str, yes: bool, job: work.Job) -> Any:
    job.report(None)
    plan = looked_at.again(order, caller.owner, card)
    push(plan, caller.owner, confirmed=yes, progress=job.report, stop=job.stop)
    return plan


@handler()
def prove_again(caller: Caller, **values: Any) -> Iterator[dict]:
    """Verify the last push once more."""
    order = Order.typed(**values)
    subject = order.subject(caller.owner)
    outcome = yield from _follow(caller, lambda job: _prove(caller, subject, order.kind, job))
    yield _over(outcome)


@handler()
def offer_proof(caller: Caller, **values: Any) -> Any:
    """Show the button that repeats the verification, once there is something to verify."""
    order = Order.typed(**values)
    return gr.update(visible=read_push(order.subject(caller.owner), order.kind) is not None)


@handler()
def stop(caller: Caller) -> None:
    """Stop the preview, the push or the verification."""
    work.stop(caller, "look")
    work.stop(caller, "publish")


@handler()
def read_card(caller: Caller, text: str | None) -> Any:
    """Show the card as rendered Markdown while it is edited."""
    return _readable(text or "")


def _follow(caller: Caller, do: Any) -> Generator[dict, None, Any]:
    """Do long work and show its progress."""
    busy = lambda text: {"progress": text, "stop": gr.update(visible=True)}  # noqa: E731
    idle = lambda: {"progress": "", "stop": gr.update(visible=False)}  # noqa: E731
    return (yield from work.run(caller, "publish", do, busy, idle))


def _over(outcome: str) -> dict[str, Any]:
    """Return what is shown once long work has ended."""
    return {"progress": "", "stop": gr.update(visible=False), "outcome": outcome}


def _prove(caller: Caller, subject: "Run | Dataset", kind: str, job: work.Job) -> str:
    """Verify the push and return the outcome; if the verification fails, the outcome still shows what was pushed."""
    pushed, looked_at = read_push(subject, kind), kept(caller)
    if pushed is None:
        raise UserError("publishing.choose_run")
    built = (
        looked_at.built if looked_at and (looked_at.order.kind, looked_at.plan.run.id) == (kind, subject.id) else None
    )
    proof = None
    try:
        local = built.folder if built else None
        proof = prove(
            subject, pushed.repo_id, pushed.commit, caller.owner, job.report, job.stop, kind=kind, local=local
        )
        if proof.ok:
            forget(caller)
            keep_in_card(subject, proof, caller.owner, job.report, kind=kind, stop=job.stop)
    except UserError as error:
        return render("published", pushed=pushed, proof=proof, trouble=str(error))
    return _outcome(subject, kind)


def _outcome(subject: "Run | Dataset", kind: str) -> str:
    """Return where the subject is published, with the verification of that push; empty if it never was."""
    pushed, proof = read_push(subject, kind), read_proof(subject, kind)
    if pushed is None:
        return ""
    if proof is not None and proof.revision != pushed.commit:
        proof = None
    return render("published", pushed=pushed, proof=proof, trouble=None)


def _shown(found: Preview) -> dict[str, Any]:
    plan = found.plan
    return {
        "files": render("plan", plan=plan, sent=False),
        "editor": gr.update(visible=True),
        "text": plan.card,
        "card": gr.update(value=_readable(plan.card), visible=True),
        "yes": gr.update(visible=plan.needs_yes, value=False),
        "push": gr.update(visible=True),
        "seen": found.id,
    }


def _no_plan() -> dict[str, Any]:
    return {
        "files": "",
        "editor": gr.update(visible=False),
        "text": "",
        "card": gr.update(value="", visible=False),
        "yes": gr.update(visible=False, value=False),
        "push": gr.update(visible=False),
        "seen": None,
    }


def _readable(card: str) -> str:
    """Return the card as Markdown with its metadata as a block of code."""
    return re.sub(r"\A---\r?\n(.*?)\r?\n---\r?\n", r"```yaml\n\1\n```\n", card, flags=re.DOTALL)


def _nothing_yet() -> str:
    return render("empty", title=say("publishing.empty"), text=say("publishing.empty_help"))
