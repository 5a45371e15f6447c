"""The form for the columns of a file and their roles, filled with what was recognized; a person can correct it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from core.errors import UserError
from finetune.config.mapping import FORMATS, PARTS, Mapping
from finetune.data.importing.recognize import recognize
from ui.parts.controls import button, dropdown
from ui.parts.wiring import NEWEST, Parts, by_name
from ui.web.handler import Caller, handler
from ui.web.language import words

KINDS = sorted({kind for kinds in FORMATS.values() for kind in kinds})
ROLES_OF = {
    "alpaca": ("prompt", "input", "system", "history", "answer", "chosen", "rejected"),
    "sharegpt": ("messages", "system", "tools", "chosen", "rejected"),
    "messages": ("messages", "system", "tools", "chosen", "rejected"),
    "prompt_completion": ("prompt", "system", "history", "answer", "chosen", "rejected"),
    "text": ("text",),
}


@dataclass
class MappingForm:
    """The form's components; `uploaded` holds the path of the file that is mapped."""

    box: gr.Accordion
    uploaded: gr.State
    format: gr.Dropdown
    kind: gr.Dropdown
    roles: dict[str, gr.Dropdown]
    again: gr.Button

    def fields(self) -> Parts:
        """Return the components whose values `read` takes."""
        return {"format": self.format, "kind": self.kind, **self.roles}

    def outputs(self) -> Parts:
        """Return the components that `look` fills."""
        return {"box": self.box, "uploaded": self.uploaded, **self.fields()}


def draw() -> MappingForm:
    """Draw the form, hidden until a file was uploaded."""
    uploaded = gr.State(None)
    with gr.Accordion(words("page.mapping"), open=False, visible=False, elem_id="mapping") as box:
        with gr.Row():
            shape = dropdown("page.mapping_format", list(FORMATS), min_width=160)
            kind = dropdown("page.mapping_kind", KINDS, min_width=160)
        with gr.Row():
            roles = {role: dropdown(f"page.role_{role}", min_width=160, visible=False) for role in PARTS}
        again = button("page.read_again", elem_id="read-again")
    shape.input(**by_name(show_roles, shape, roles), **NEWEST)
    return MappingForm(box, uploaded, shape, kind, roles, again)


@handler()
def look(caller: Caller, path: str | None) -> dict[str, Any]:
    """Recognize an uploaded file and fill the form, which opens by itself if nothing was recognized."""
    if not path:
        return {}
    found = recognize(Path(path))
    mapping = found.mapping
    shape = found.row_format or "prompt_completion"
    chosen = mapping.columns() if mapping else {}
    roles = {
        role: gr.update(choices=found.columns, value=chosen.get(role), visible=role in ROLES_OF[shape])
        for role in PARTS
    }
    box = gr.update(visible=True, open=mapping is None)
    return {"box": box, "uploaded": path, "format": shape, "kind": found.kind or "chat", **roles}


@handler()
def show_roles(caller: Caller, shape: str) -> dict[str, Any]:
    """Show only the parts that the format has."""
    return {role: gr.update(visible=role in ROLES_OF.get(shape, ())) for role in PARTS}


def read(path: str | None, fields: dict[str, Any]) -> Mapping:
    """Return the mapping that the form says. Raises UserError where there is no file or no format."""
    shape, kind = fields["format"], fields["kind"]
    if not path or not shape or not kind:
        raise UserError("page.nothing_to_read")
    columns = {role: fields[role] for role in PARTS if fields[role] and role in ROLES_OF[shape]}
    return Mapping(format=shape, kind=kind, **columns)
