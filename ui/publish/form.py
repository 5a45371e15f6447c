"""The fields of the Publish tab: what is published, where, and fields of some kinds only."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from core.words import say
from finetune.publish.kinds import KINDS
from finetune.publish.kinds.options import GGUF_TYPES
from ui.parts.controls import button, dropdown, textbox
from ui.parts.views import render, view
from ui.parts.wiring import Parts
from ui.publish.request import Order
from ui.web.language import Spoken, words

KINDS_WITH_FIELD = {"columns": ("presets", "space"), "types": ("gguf",), "shows": ("space",)}
"""The fields that only some kinds have."""


@dataclass
class Fields:
    """The tab's fields, named as in `ui.publish.request.Order`, and the text that explains them."""

    kind: gr.Radio
    run: gr.Dropdown
    dataset: gr.Dropdown
    repo: gr.Textbox
    visibility: gr.Radio
    branch: gr.Textbox
    pull_request: gr.Checkbox
    license: gr.Textbox
    columns: gr.Textbox
    types: gr.Dropdown
    shows: gr.Textbox
    samples: gr.Checkbox
    about: gr.HTML
    look: gr.Button

    def inputs(self) -> Parts:
        """Return the fields that an `Order` is made of."""
        return {name: getattr(self, name) for name in Order.__dataclass_fields__}

    def changing(self) -> Parts:
        """Return the components that another kind shows or hides: those that `shown_for` names."""
        names = ("about", "run", "dataset", "columns", "types", "shows", "samples", "license")
        return {name: getattr(self, name) for name in names}


def draw() -> Fields:
    """Draw the fields; what is seldom needed is folded away."""
    titles = [(words(kind.title_key), key) for key, kind in KINDS.items()]
    kind = gr.Radio(titles, value="adapter", label=words("publishing.kind"), elem_id="publish-kind")
    about = view(elem_id="publish-about")
    about.value = Spoken(lambda: about_kind("adapter", True))
    with gr.Row(elem_classes="ts-start"):
        run = dropdown("publishing.run", scale=3, min_width=260, elem_id="publish-run")
        dataset = dropdown("publishing.dataset", visible=False, scale=3, min_width=260, elem_id="publish-dataset")
        repo = textbox("publishing.repo", hint="publishing.repo_hint", scale=3, min_width=240, elem_id="publish-repo")
        visibility = gr.Radio(
            [(words("publishing.private"), "private"), (words("publishing.public"), "public")],
            value="private",
            label=words("publishing.visibility"),
            scale=3,
            min_width=320,
            elem_id="publish-visibility",
        )
    columns, types, shows, license_field = _draw_for_kinds()
    samples = gr.Checkbox(
        False, label=words("publishing.samples"), info=words("publishing.samples_help"), elem_id="publish-samples"
    )
    branch, pull_request = _draw_elsewhere()
    look = button("publishing.preview", variant="primary", elem_id="publish-look")
    return Fields(
        kind,
        run,
        dataset,
        repo,
        visibility,
        branch,
        pull_request,
        license_field,
        columns,
        types,
        shows,
        samples,
        about,
        look,
    )


def _draw_for_kinds() -> tuple:
    """Draw the fields that only some kinds have, and the license, which is asked for if it is not known."""
    hidden: dict[str, Any] = {"visible": False, "min_width": 260}
    with gr.Row(elem_classes="ts-start"):
        columns = textbox(
            "publishing.columns",
            hint="publishing.columns_hint",
            help="publishing.columns_help",
            lines=2,
            elem_id="publish-columns",
            **hidden,
        )
        types = dropdown(
            "publishing.types", list(GGUF_TYPES), list(GGUF_TYPES), multiselect=True, elem_id="publish-types", **hidden
        )
        shows = textbox(
            "publishing.shows",
            hint="publishing.shows_hint",
            help="publishing.shows_help",
            elem_id="publish-shows",
            **hidden,
        )
        license_field = textbox(
            "publishing.licence",
            hint="publishing.licence_hint",
            help="publishing.licence_help",
            elem_id="publish-licence",
            **hidden,
        )
    return columns, types, shows, license_field


def _draw_elsewhere() -> tuple:
    with gr.Accordion(words("publishing.elsewhere"), open=False, elem_id="publish-elsewhere"), gr.Row():
        branch = textbox("publishing.branch", hint="publishing.branch_hint", min_width=240, elem_id="publish-branch")
        pull_request = gr.Checkbox(
            False,
            label=words("publishing.request"),
            info=words("publishing.request_help"),
            min_width=280,
            elem_id="publish-request",
        )
    return branch, pull_request


def about_kind(kind: str, has_token: bool) -> str:
    """Return a sentence on the kind and, if nobody is logged in, one on what needs a token."""
    return render("kind", about=say(KINDS[kind].help_key), has_token=has_token)


def shown_for(kind: str, license_text: str | None, has_token: bool) -> dict[str, Any]:
    """Return what `Fields.changing` shows for a kind."""
    of_dataset = KINDS[kind].subject == "dataset"
    visible = {name: kind in kinds for name, kinds in KINDS_WITH_FIELD.items()}
    visible |= {"run": not of_dataset, "dataset": of_dataset}
    visible |= {"samples": KINDS[kind].samples, "license": of_dataset or bool(license_text)}
    return {"about": about_kind(kind, has_token), **{name: gr.update(visible=seen) for name, seen in visible.items()}}
