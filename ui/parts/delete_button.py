"""Deleting the dropdown's choice: a button that asks for confirmation first."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from core.words import say
from core.workspace import Owner
from finetune.launch.delete import remove
from ui.parts.controls import button
from ui.parts.views import render, view
from ui.parts.wiring import QUIET, SHOWN
from ui.web.handler import Caller, handler

Choices = Callable[[Caller], list[tuple[str, str]]]
Remove = Callable[[str, Owner], str]


def draw(picker: gr.Dropdown, choices: Choices, name: str, removes: Remove = remove) -> Any:
    """Draw the buttons beside the picker; `choices` lists what is left. Returns the event after which to show anew."""
    ask = button("page.delete", size="sm", scale=0, min_width=90, elem_id=f"delete-{name}")
    sure = button(
        "page.delete_sure", size="sm", variant="stop", visible=False, scale=0, min_width=120, elem_id=f"sure-{name}"
    )
    keep = button("page.keep", size="sm", visible=False, scale=0, min_width=70)
    answer = view(elem_id=f"deleted-{name}")
    buttons = [ask, sure, keep]
    ask.click(_ask, picker, [*buttons, answer], **QUIET)
    keep.click(_keep, None, buttons, **QUIET)
    event = sure.click(_deletes(choices, removes), picker, [picker, answer], **SHOWN)
    event.then(_keep, None, buttons, **QUIET)
    return event


@handler()
def _ask(caller: Caller, chosen: str | None) -> list:
    """Ask for confirmation if something is chosen."""
    return [*_visible(confirming=bool(chosen)), ""]


@handler(quiet=True)
def _keep(caller: Caller) -> list:
    """Cancel the deletion: show the first button again."""
    return _visible(confirming=False)


def _visible(confirming: bool) -> list:
    return [gr.update(visible=not confirming), gr.update(visible=confirming), gr.update(visible=confirming)]


def _deletes(choices: Choices, removes: Remove) -> Callable:
    @handler()
    def delete(caller: Caller, chosen: str | None) -> tuple:
        """Delete it for good, and choose the newest of what is left."""
        if not chosen:
            return gr.skip(), ""
        gone = removes(chosen, caller.owner)
        left = choices(caller)
        newest = left[0][1] if left else None
        note = render("note", kind="ts-good", title="", text=say("run.removed", value=gone[:20]))
        return gr.update(choices=left, value=newest), note

    return delete
