"""What Gradio keeps of each browser tab: as many components as the page has, however long the tab is open."""

from typing import Any

from gradio import state_holder
from gradio.blocks import Block


class Session(state_holder.SessionState):
    """A browser tab's components.

    Gradio 6.31 makes a new component of each that an event changes, even by `gr.skip()`, and gives it an id of its
    own; the next event that reads it files it under that id, too, and nothing ever takes it out. The timer's tick does
    so every two seconds, about 5 KB each time. Here the new component has the id of the one in whose place it is.
    """

    def __setitem__(self, key: int, value: Any) -> None:
        if isinstance(value, Block):
            value._id = key
        super().__setitem__(key, value)


def use() -> None:
    """Let Gradio keep its sessions as `Session` from now on."""
    state_holder.SessionState = Session  # type: ignore[misc]
