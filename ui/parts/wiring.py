"""How the parts of the page are wired: every listener is private, and timers neither queue nor flicker."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

HIDDEN: dict[str, Any] = {"show_progress": "hidden", "show_progress_on": []}
"""No progress on any component. If an event names none, Gradio 6.31 keeps a status for each component that the event
ever updated, and searches the whole page for all of them whenever the event begins or ends."""
QUIET: dict[str, Any] = {**HIDDEN, "queue": False, "api_visibility": "private"}
SHOWN: dict[str, Any] = {**HIDDEN, "api_visibility": "private", "concurrency_limit": None}


@dataclass
class Page:
    """The page under construction, the tab that is being drawn, all of them, and
    what they share: the dropdowns that list datasets and runs."""

    demo: gr.Blocks
    timer: gr.Timer
    tab: gr.Tab = field(init=False)
    tabs: gr.Tabs = field(init=False)
    datasets: list[gr.Dropdown] = field(default_factory=list)
    runs: list[gr.Dropdown] = field(default_factory=list)

    def every_two_seconds(self, fn: Callable, inputs: Any, outputs: Any) -> None:
        """Poll with the page's one timer, beside the queue."""
        self.timer.tick(fn, inputs, outputs, **QUIET)

    def on_open(self, fn: Callable, inputs: Any, outputs: Any, then: tuple = (), at_last: tuple = ()) -> None:
        """Run when the page is opened, beside the queue; then one more and, through the queue, a last one."""
        event = self.demo.load(fn, inputs, outputs, **QUIET)
        if then:
            event = event.success(*then, **QUIET)
        if at_last:
            event.success(*at_last, **SHOWN)
