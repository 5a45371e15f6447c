"""A knob of the config as a field of the page, and a field's value as a value of the config."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from finetune.config.run_config import ConfigKnob
from ui.parts.views import view
from ui.web.language import words

WIDTHS = {"text": 280, "texts": 280}


def draw_field(knob: ConfigKnob, *, help: bool, visible: bool = True, name: str | None = None) -> Any:
    """Draw the field of a knob: label, default and, with `help`, its description. `name` is its id on the page."""
    common = {
        "label": words(knob.label),
        "info": words(knob.help) if help else None,
        "elem_id": name or f"knob-{knob.path.replace('.', '-')}",
        "visible": visible,
        "min_width": 230 if help else WIDTHS.get(knob.type, 130),
    }
    match knob.type:
        case "integer" | "number" if knob.optional:
            hint = words("page.chosen_for_you" if knob.auto else "board.not_set")
            return gr.Textbox(written(knob.default), max_lines=1, placeholder=hint, **common)
        case "integer" | "number":
            return gr.Number(knob.default, **common)
        case "boolean":
            return gr.Checkbox(knob.default, **common)
        case "choice":
            return gr.Dropdown(list(knob.choices), value=knob.default, **common)
        case "texts":
            return gr.Textbox("\n".join(knob.default or ()), lines=2, **common)
        case _:
            return gr.Textbox(knob.default, max_lines=1, **common)


@contextmanager
def group(name: str) -> Iterator[None]:
    """Draw fields under the heading of a group of `finetune.config.GROUPS`; without a visible field neither shows."""
    with gr.Column(elem_classes="ts-group", elem_id=f"group-{name}"):
        view("heading", facts={"title": words(f"config.group.{name}")})
        with gr.Row(elem_classes="ts-advanced"):
            yield


def is_shown(knob: ConfigKnob, values: dict[str, Any]) -> bool:
    """Return whether a knob shows under the values chosen, by path."""
    return knob.shown_when is None or values.get(knob.shown_when[0]) in knob.shown_when[1]


def written(value: Any) -> str:
    """Return an optional number as text: a number field would show 0 for an empty one."""
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return "" if value is None else str(value)


def shown_value(knob: ConfigKnob, value: Any) -> Any:
    """Return a value of the config as its field shows it."""
    if knob.type == "texts":
        return "\n".join(value or ())
    return written(value) if knob.optional and knob.type in ("integer", "number") else value


def plain_value(knob: ConfigKnob, value: Any) -> Any:
    """Return a field's value as the config has it."""
    if knob.type == "texts":
        return [line.strip() for line in str(value or "").splitlines() if line.strip()]
    if knob.type == "text":
        return str(value or "").strip() or (None if knob.optional else knob.default)
    if knob.optional and isinstance(value, str) and knob.type in ("integer", "number"):
        return number_in(value)
    if knob.type == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def number_in(text: str | None) -> Any:
    """Return the number in a text field; other text stays as typed, and the config reports the problem."""
    text = (text or "").strip()
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None
