"""Wiring of events: every listener is private, handlers are bound by name, and timers neither queue nor flicker."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import gradio as gr
from gradio.blocks import Block

Parts = dict[str, Block]
"""Components by the names that a handler has for their values."""

HIDDEN: dict[str, Any] = {"show_progress": "hidden", "show_progress_on": []}
"""No progress on any component. If an event names none, Gradio 6.31 keeps a status for each component that the event
ever updated, and searches the whole page for all of them whenever the event begins or ends."""
QUIET: dict[str, Any] = {**HIDDEN, "queue": False, "api_visibility": "private"}
SHOWN: dict[str, Any] = {**HIDDEN, "api_visibility": "private", "concurrency_limit": None}
NEWEST: dict[str, Any] = {**SHOWN, "trigger_mode": "always_last"}
"""For choices: by default Gradio ignores a choice made while it still answers the one before."""


@dataclass
class Page:
    """The page under construction, the tab that is being drawn, all tabs, and the dropdowns that list datasets and
    runs."""

    demo: gr.Blocks
    timer: gr.Timer
    tab: gr.Tab = field(init=False)
    tabs: gr.Tabs = field(init=False)
    datasets: list[gr.Dropdown] = field(default_factory=list)
    runs: list[gr.Dropdown] = field(default_factory=list)

    def every_two_seconds(self, fn: Callable, inputs: Any, outputs: Any) -> None:
        """Poll with the page's one timer, outside the queue."""
        self.timer.tick(fn, inputs, outputs, **QUIET)

    def on_open(self, fn: Callable, inputs: Any, outputs: Any, then: Any = (), at_last: Any = ()) -> None:
        """Run `fn` when the page is opened, outside the queue; then `then` and, through the queue, `at_last`.

        Both are fn, inputs and outputs of an event, as a tuple or as `by_name` returns them.
        """
        event = self.demo.load(fn, inputs, outputs, **QUIET)
        if then:
            event = event.success(**_event(then), **QUIET)
        if at_last:
            event.success(**_event(at_last), **SHOWN)


def _event(wiring: Any) -> dict[str, Any]:
    return wiring if isinstance(wiring, dict) else dict(zip(("fn", "inputs", "outputs"), wiring, strict=True))


def by_name(fn: Callable, inputs: Any, outputs: Any) -> dict[str, Any]:
    """Bind a handler to components by name. Return `fn`, `inputs` and `outputs` for an event.

    If `inputs` are `Parts`, the handler takes the values as keyword arguments. If `outputs` are, it returns values by
    name, and what it does not name stays as it is. Gradio gives and takes {component: value} then, so no handler
    depends on the order in which components are drawn or listed.
    """
    names = {component: name for name, component in inputs.items()} if isinstance(inputs, Mapping) else None

    def call(request: Any, profile: Any, token: Any, values: tuple) -> Any:
        if names is None:
            return fn(request, profile, token, *values)
        return fn(request, profile, token, **{names[component]: value for component, value in values[0].items()})

    def by_component(news: Any) -> Any:
        if not isinstance(outputs, Mapping):
            return news
        return {outputs[name]: value for name, value in news.items()} or gr.skip()

    def answer(request: Any, profile: Any, token: Any, *values: Any) -> Any:
        return by_component(call(request, profile, token, values))

    def stream(request: Any, profile: Any, token: Any, *values: Any) -> Iterator[Any]:
        items = call(request, profile, token, values)
        try:
            yield from map(by_component, items)
        finally:
            items.close()

    bound: Any = wraps(fn)(stream if inspect.isgeneratorfunction(fn) else answer)
    if names is not None:
        bound.__signature__ = _of_one_dict(fn)
    return {
        "fn": bound,
        "inputs": inputs if names is None else set(names),
        "outputs": list(outputs.values()) if isinstance(outputs, Mapping) else outputs,
    }


def _of_one_dict(fn: Callable) -> inspect.Signature:
    """Return the signature of a handler that gets the values of all inputs as one dict."""
    signature = inspect.signature(fn)
    injected = list(signature.parameters.values())[:3]
    values = inspect.Parameter("values", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return signature.replace(parameters=[*injected, values])
