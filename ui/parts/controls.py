"""Stock Gradio components with labels in the reader's language."""

from typing import Any

import gradio as gr

from ui.web.language import words


def button(key: str, **more: Any) -> gr.Button:
    """Make a button whose words are the key's. (A button's value is made a string at once, hence the second step.)"""
    made = gr.Button(**more)
    made.value = words(key)
    return made


def upload_button(key: str, **more: Any) -> gr.UploadButton:
    """Make a button that uploads a file."""
    made = gr.UploadButton(**more)
    made.label = words(key)
    return made


def dropdown(key: str, choices: list | None = None, value: Any = None, **more: Any) -> gr.Dropdown:
    """Make a dropdown; with `value` None nothing is chosen.

    If it is filled later, the handler checks the value: Gradio checks against the choices that it sent to this session,
    so a tab that was open while the program restarted would get an error.
    """
    more.setdefault("allow_custom_value", not choices)
    return gr.Dropdown(choices or [], value=value, label=words(key), **more)


def refreshed(choices: list[tuple[str, str]], chosen: str | None) -> Any:
    """Return new choices for a dropdown. The first is chosen only if the value is not among them: to send the value
    back would undo what was typed or chosen meanwhile."""
    known = [value for _, value in choices]
    return gr.update(choices=choices) if chosen in known else gr.update(choices=choices, value=next(iter(known), None))


def textbox(key: str, *, hint: str | None = None, help: str | None = None, **more: Any) -> gr.Textbox:
    """Make a text field; `hint` is the key of its placeholder, `help` that of the text under its label."""
    texts: dict[str, Any] = {"placeholder": words(hint) if hint else None, "info": words(help) if help else None}
    return gr.Textbox(label=words(key), **texts, **more)
