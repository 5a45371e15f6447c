"""Gradio's state of each browser tab, bounded: as many components as the page has, however long the tab is open."""

from typing import Any

from gradio import state_holder
from gradio.blocks import Block


class Session(state_holder.SessionState):
    """A browser tab's components.

    Gradio 6.31 makes a new component of each that an event changes, even by `gr.skip()`, and gives it a new id;
    the next event that reads it stores it under that id, too, and nothing ever removes it. The timer's tick does so
    every two seconds, about 5 KB each time. Here the new component keeps the id of the one that it replaces.
    """

    def __setitem__(self, key: int, value: Any) -> None:
        if isinstance(value, Block):
            value._id = key
        super().__setitem__(key, value)


def use() -> None:
    """Let Gradio keep its sessions as `Session` from now on."""
    state_holder.SessionState = Session  # type: ignore[misc]
