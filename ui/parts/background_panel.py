"""The panel of background work: start, stop, progress, the list of earlier results, and the one chosen.

The work belongs to its owner, not to a browser tab: any tab of theirs follows it, and its result is on disk.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from core.words import say
from core.workspace import Owner
from ui.parts.background import Background, failed
from ui.parts.controls import button, dropdown
from ui.parts.job import Job
from ui.parts.views import render, view
from ui.parts.wiring import NEWEST, QUIET, SHOWN, Page, Parts, by_name
from ui.web.handler import Caller, handler
from ui.web.language import Spoken

Begin = Callable[..., tuple[str, Callable[[Job], Any]]]


@dataclass(frozen=True)
class BackgroundKind:
    """One kind of background work. `prefix` begins the ids of its components, `name` ends the names of its endpoints;
    `start`, `stopping` and `listed` are keys of sentences."""

    prefix: str
    name: str
    start: str
    stopping: str
    listed: str
    picker_id: str
    works: Background
    choices: Callable[[Caller], list[tuple[str, str]]]
    """The owner's results, newest first."""
    show: Callable[[Owner, str | None], str]
    """A result as HTML. Raises UserError for one of another owner."""
    nothing: Callable[[], str]
    """What is shown in place of a result."""


class BackgroundPanel:
    """The components of one kind of background work. They are not rendered: the tab places each."""

    def __init__(self, kind: BackgroundKind) -> None:
        self.kind = kind
        prefix = kind.prefix
        later: dict[str, Any] = {"render": False}
        self.start = button(kind.start, variant="primary", min_width=150, elem_id=f"{prefix}-start", **later)
        self.stop = button(
            "page.stop", variant="stop", interactive=False, min_width=90, elem_id=f"{prefix}-stop", **later
        )
        self.progress = view(elem_id=f"{prefix}-progress", **later)
        self.picker = dropdown(kind.listed, scale=4, min_width=270, elem_id=kind.picker_id, **later)
        self.result = view(elem_id=f"{prefix}-result", **later)
        self.result.value = Spoken(kind.nothing)
        self.seen = gr.State("")
        self.show = (self._shows(), self.picker, self.result)
        """Handler, inputs and outputs that show the chosen result."""

    def wire(self, page: Page, begin: Begin, inputs: Parts) -> None:
        """Wire the components. `begin(caller, **values of inputs)` checks what was asked for and returns the id of
        the new work and the function that does it."""
        outputs = [self.seen, self.progress, self.start, self.stop, self.picker, self.result]
        self.start.click(**by_name(self._starts(begin), inputs, outputs), **SHOWN, trigger_mode="once")
        self.stop.click(self._stops(), None, self.progress, **QUIET)
        self.picker.input(*self.show, **NEWEST)
        page.every_two_seconds(self._ticks(), self.seen, outputs)

    def _starts(self, begin: Begin) -> Callable:
        def start(caller: Caller, **values: Any) -> dict:
            """Begin the work; one piece at a time for each owner."""
            identity, do = begin(caller, **values)
            self.kind.works.begin(caller, identity, do)
            return self.state(caller, "")

        return handler()(self._named("start", start))

    def _stops(self) -> Callable:
        def stop(caller: Caller) -> str:
            """Ask the owner's work to end."""
            if not self.kind.works.stop(caller):
                return ""
            return render("note", kind="ts-warn", title="", text=say(self.kind.stopping))

        return handler()(self._named("stop", stop))

    def _ticks(self) -> Callable:
        def tick(caller: Caller, seen: str) -> dict:
            """Follow the owner's work."""
            return self.state(caller, seen)

        return handler(quiet=True)(self._named("tick", tick))

    def _shows(self) -> Callable:
        def show(caller: Caller, chosen: str | None) -> str:
            """Show a result."""
            return self.kind.show(caller.owner, chosen)

        return handler(quiet=True)(self._named("show", show))

    def _named(self, verb: str, fn: Callable) -> Callable:
        """Name a handler after the kind: Gradio names its endpoint so, and the log its calls."""
        fn.__name__ = f"{verb}_{self.kind.name}"
        return fn

    def state(self, caller: Caller, seen: str) -> dict:
        """Return new values by component: progress while the owner's work runs, its result when it has ended.

        Nothing is sent if nothing changed since `seen`.
        """
        work = self.kind.works.of(caller)
        if work is None:
            return gr.skip()
        stamp = work.stamp  # before `alive`: if the work ends in between, the next call sees another stamp
        if stamp == seen:
            return gr.skip()
        alive, job = work.alive, work.job
        news: dict[Any, Any] = {
            self.seen: stamp,
            self.start: gr.update(interactive=not alive),
            self.stop: gr.update(interactive=alive),
        }
        if alive and job.stop.is_set():
            return news
        if alive:
            return news | {self.progress: render("progress", progress=job.progress)}
        if job.error is not None:
            return news | {self.progress: failed(work)}
        listed = gr.update(choices=self.kind.choices(caller), value=work.id)
        return news | {self.progress: "", self.picker: listed, self.result: self.kind.show(caller.owner, work.id)}
