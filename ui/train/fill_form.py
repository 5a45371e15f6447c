"""Filling the whole form from a YAML file or a preset. A config that it cannot show is kept and started unchanged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from core.words import say
from core.workspace import Owner
from finetune.config.presets import PRESETS, Preset, preset_named
from finetune.config.run_config import RunConfig, load_yaml
from finetune.data.store import list_datasets
from finetune.objectives import OBJECTIVES
from finetune.plan.prepare import import_data
from ui.data.datasets import choices as dataset_choices
from ui.parts import job as work
from ui.parts.controls import button
from ui.parts.views import render, view
from ui.parts.wiring import SHOWN, Parts, by_name
from ui.train import form, stages_form
from ui.web.handler import Caller, handler
from ui.web.language import words

FIRST_OBJECTIVE = stages_form.field_name(0, "objective")
IN_PLACE_OF_KEPT = ("box", "datasets", FIRST_OBJECTIVE)
"""The components that show while no config is kept."""
_NO_DATA = "0" * 12
"""Stands for data that is not chosen yet."""


@dataclass
class KeptConfigBox:
    """What replaces the form while a config is kept: a note, and a button back to the form."""

    box: gr.Column
    back: gr.Button


@dataclass
class Filling:
    """The sources of a whole config, and all components that change with it. `box` holds the form's settings."""

    datasets: gr.Dropdown
    form: form.Form
    preset: gr.Dropdown
    upload: gr.UploadButton
    box: gr.Column
    kept: KeptConfigBox
    answer: gr.HTML
    stop: gr.Button
    yaml: gr.Code

    def outputs(self) -> Parts:
        """Return the components that `_filled` fills."""
        boxes: Parts = {"box": self.box, "kept_box": self.kept.box, "yaml": self.yaml}
        return {"answer": self.answer, "stop": self.stop, **boxes, "datasets": self.datasets, **self.form.inputs}

    def wire(self) -> None:
        """Fill the form from what is chosen."""
        once = {**SHOWN, "trigger_mode": "once"}
        further = [stage.datasets for stage in self.form.stages.further if stage.datasets]
        self.upload.upload(**by_name(fill_from_yaml, self.upload, self.outputs()), **once)
        chosen = [self.preset, self.datasets, *further]
        self.preset.input(**by_name(fill_from_preset, chosen, self.outputs()), **once)
        back = {name: self.outputs()[name] for name in (form.KEPT, "kept_box", "yaml", *IN_PLACE_OF_KEPT)}
        self.kept.back.click(**by_name(back_to_form, None, back), **SHOWN)


def draw_preset() -> gr.Dropdown:
    """Draw the presets, none of them chosen."""
    titles = [(words(preset.title_key), name) for name, preset in PRESETS.items()]
    more: dict[str, Any] = {"scale": 2, "min_width": 200, "elem_id": "preset"}
    return gr.Dropdown([(words("presets.hint"), ""), *titles], value="", label=words("presets.label"), **more)


def draw_kept() -> KeptConfigBox:
    """Draw what replaces the form while a config is kept; hidden until then."""
    with gr.Column(visible=False, elem_id="kept") as box:
        view("note", facts={"kind": "ts-warn", "title": "", "text": words("page.kept_config")})
        back = button("page.back_to_form", size="sm", elem_id="back-to-form")
    return KeptConfigBox(box, back)


@handler()
def fill_from_yaml(caller: Caller, path: str | None) -> Iterator[dict]:
    """Fill the form from an uploaded config; data that it names by file or repository is imported, which can be
    stopped."""
    uploaded = load_yaml(Path(path or "").read_bytes())
    config = yield from work.run(
        caller,
        "train",
        lambda job: import_data(uploaded, caller.owner, job.report, job.stop),
        lambda text: {"answer": text, "stop": gr.update(visible=True)},
        lambda: {"answer": "", "stop": gr.update(visible=False)},
    )
    yield _filled(caller, config, [say("page.yaml_read")])


@handler()
def fill_from_preset(caller: Caller, name: str, *chosen: list[str] | None) -> dict[str, Any]:
    """Fill the form with a preset. Chosen data stays if it fits the stage; else the newest that does is taken; missing
    data is reported."""
    if not name:
        return {}
    preset = preset_named(name)
    data = [
        _suited(caller.owner, objective, some or []) for objective, some in zip(preset.objectives, chosen, strict=False)
    ]
    config = preset.config([[{"dataset": dataset} for dataset in some or [_NO_DATA]] for some in data])
    notes = [say("presets.filled", title=say(preset.title_key), about=say(preset.about_key))]
    return _filled(caller, config, notes + _lacking(preset, data))


def _suited(owner: Owner, objective: str, chosen: Sequence[str]) -> list[str]:
    """Return the data for an objective: the chosen data if it fits, else the newest dataset that does."""
    kinds = set(OBJECTIVES[objective].kinds)
    if chosen and stages_form.kinds_of(owner, chosen) <= kinds:
        return list(chosen)
    return [dataset.id for dataset in list_datasets(owner) if dataset.kind in kinds][:1]


def _lacking(preset: Preset, data: list[list[str]]) -> list[str]:
    lacks = [(number, preset.objectives[number - 1]) for number, some in enumerate(data, 1) if not some]
    return [say("presets.lacks", number=number, kinds=", ".join(OBJECTIVES[key].kinds)) for number, key in lacks]


def _filled(caller: Caller, config: RunConfig, notes: list[str]) -> dict[str, Any]:
    """Return all outputs for a config: notes, no Stop, form or kept config, data, fields."""
    values, choices = form.fill(config), dataset_choices(caller)
    kept = values[form.KEPT]
    for name in stages_form.data_names():
        values[name] = gr.update(choices=choices, value=_there(values[name]))
    values[FIRST_OBJECTIVE] = gr.update(value=values[FIRST_OBJECTIVE], choices=stages_form.titles(), visible=not kept)
    first = _there(stages_form.datasets_of(config.stages[0]))
    kinds = ["ts-good", *["ts-warn"] * len(notes)]
    rendered = [render("note", kind=kind, title="", text=note) for kind, note in zip(kinds, notes, strict=False)]
    return {
        "answer": "" if kept else "".join(rendered),
        "stop": gr.update(visible=False),
        "box": gr.update(visible=not kept),
        "kept_box": gr.update(visible=bool(kept)),
        "yaml": gr.update(value=kept, visible=True) if kept else gr.update(visible=False),
        "datasets": gr.update(choices=choices, value=first, visible=not kept),
        **values,
    }


def _there(datasets: list[str]) -> list[str]:
    return [dataset for dataset in datasets if dataset != _NO_DATA]


@handler()
def back_to_form(caller: Caller) -> dict[str, Any]:
    """Discard the kept config: the form counts again, with as much of the config as it can show."""
    hidden, shown = gr.update(visible=False), gr.update(visible=True)
    return {form.KEPT: None, "kept_box": hidden, "yaml": hidden, **dict.fromkeys(IN_PLACE_OF_KEPT, shown)}
