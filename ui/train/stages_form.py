"""The stages of a run as fields: the first one's objective beside the data, two further ones folded away."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.blocks import Block

from core.errors import UserError
from core.words import say
from core.workspace import Owner, dataset_folder
from finetune.config.run_config import ConfigKnob, RunConfig, Stage, stage_knobs
from finetune.data.store import open_dataset
from finetune.objectives import OBJECTIVES, fitting
from ui.data.datasets import choices as dataset_choices
from ui.parts.controls import dropdown, textbox
from ui.parts.views import render, view
from ui.parts.wiring import QUIET, SHOWN, Page, Parts, by_name
from ui.train.knob_fields import draw_field, is_shown, number_in, plain_value, written
from ui.web.handler import Caller, handler
from ui.web.language import words

FURTHER = 2
"""The number of stages in the form after the first; a config may have more."""


@dataclass
class StageFields:
    """One stage: its objective, the settings of all objectives by knob path, a sentence about its data; a further one
    has data, epochs and learning rate of its own."""

    objective: gr.Dropdown
    settings: Parts
    note: gr.HTML
    datasets: gr.Dropdown | None = None
    epochs: gr.Textbox | None = None
    rate: gr.Textbox | None = None

    def inputs(self, index: int) -> Parts:
        """Return the fields by the names of their values; `index` is the stage's, from 0."""
        own: dict[str, Block | None] = {"data": self.datasets, "epochs": self.epochs, "rate": self.rate}
        fields: Parts = {field_name(index, part): field for part, field in own.items() if field is not None}
        fields[field_name(index, "objective")] = self.objective
        return fields | {setting_name(index, path): field for path, field in self.settings.items()}


@dataclass
class Stages:
    """The fields of all stages."""

    first: StageFields
    further: list[StageFields]

    @property
    def inputs(self) -> Parts:
        """All fields, by the names that `read` and `fill` have for their values."""
        fields: Parts = {}
        for index, stage in enumerate((self.first, *self.further)):
            fields |= stage.inputs(index)
        return fields


def field_name(index: int, part: str) -> str:
    """Return the name of a stage's field: `stages.1.objective` for the second stage's objective."""
    return f"stages.{index}.{part}"


def setting_name(index: int, path: str) -> str:
    """Return the name of a stage's field for a knob such as `stages.dpo.beta`."""
    return field_name(index, path.removeprefix("stages."))


def draw_objective(name: str, value: str | None) -> gr.Dropdown:
    """Draw the objective of a stage; `name` is its id on the page.

    The choices change with the data, and Gradio would check a value against the last choices; the config checks it.
    """
    titles = [(words(f"config.objective.{key}"), key) for key in OBJECTIVES]
    more: dict[str, Any] = {"scale": 2, "min_width": 190, "elem_id": name, "allow_custom_value": True}
    return gr.Dropdown(titles, value=value, label=words("config.stages.objective.label"), **more)


def draw_settings(stage: str, objective: str | None) -> Parts:
    """Draw the settings of all objectives into a row, those of the chosen one in view. Return them by knob path."""
    return {
        knob.path: draw_field(
            knob,
            help=True,
            visible=is_shown(knob, {"stages.objective": objective}),
            name=f"{stage}-{knob.path.removeprefix('stages.').replace('.', '-')}",
        )
        for knob in stage_knobs()[1:]
    }


def draw_further() -> list[StageFields]:
    """Draw the fields of the further stages."""
    return [_draw_stage(number) for number in range(2, 2 + FURTHER)]


def _draw_stage(number: int) -> StageFields:
    name = f"stage-{number}"
    view("stage_heading", facts={"number": number})
    with gr.Row(elem_classes="ts-start"):
        data = dropdown("page.train_on", multiselect=True, scale=3, min_width=280, elem_id=f"{name}-data")
        objective = draw_objective(f"{name}-objective", None)
        narrow: dict[str, Any] = {"max_lines": 1, "scale": 1, "min_width": 130}
        epochs = textbox("config.optim.epochs.label", hint="page.as_above", elem_id=f"{name}-epochs", **narrow)
        rate = textbox("config.optim.learning_rate.label", hint="page.chosen_for_you", elem_id=f"{name}-rate", **narrow)
    note = view(elem_id=f"{name}-note")
    with gr.Row(elem_classes="ts-advanced"):
        settings = draw_settings(name, None)
    return StageFields(objective, settings, note, data, epochs, rate)


def wire(page: Page, stages: Stages, datasets: gr.Dropdown) -> None:
    """Wire the fields: data decides which objectives are offered, the objective which settings. `datasets` is the first
    stage's data."""
    for stage in (stages.first, *stages.further):
        stage.objective.change(**by_name(choose_objective, stage.objective, stage.settings), **SHOWN)
        data = stage.datasets or datasets
        fits = fit_further if stage.datasets else fit_first
        data.change(fits, [data, stage.objective], [stage.objective, stage.note], **SHOWN)
    lists = [stage.datasets for stage in stages.further if stage.datasets]
    page.tab.select(refresh, lists, lists, **QUIET)
    page.on_open(refresh, lists, lists)


@handler(quiet=True)
def refresh(caller: Caller, *chosen: list[str] | None) -> list:
    """List the owner's datasets for the further stages; none is chosen by default."""
    found = dataset_choices(caller)
    known = {value for _, value in found}
    return [gr.update(choices=found, value=[dataset for dataset in some or [] if dataset in known]) for some in chosen]


@handler(quiet=True)
def choose_objective(caller: Caller, objective: str | None) -> dict[str, Any]:
    """Show only the settings of the objective chosen."""
    chosen = {"stages.objective": objective}
    return {knob.path: gr.update(visible=is_shown(knob, chosen)) for knob in stage_knobs()[1:]}


@handler(quiet=True)
def fit_first(caller: Caller, datasets: list[str] | None, objective: str | None) -> tuple:
    """Offer the objectives that fit the chosen data, or show a sentence that none does."""
    return fit(caller.owner, datasets, objective or next(iter(OBJECTIVES)))


@handler(quiet=True)
def fit_further(caller: Caller, datasets: list[str] | None, objective: str | None) -> tuple:
    """Do the same for a further stage: without data it has no objective."""
    return fit(caller.owner, datasets, objective if datasets else None)


def fit(owner: Owner, datasets: Sequence[str] | None, objective: str | None) -> tuple[Any, str]:
    """Return the choice of objectives for the data: an update of the dropdown, and a sentence if none fits all of it.

    The chosen objective stays if it fits; else the one with the fewest row kinds is chosen.
    """
    kinds = kinds_of(owner, datasets or [])
    able = fitting(kinds)
    if not able:
        text = say("page.no_objective", kinds=", ".join(sorted(kinds)))
        return gr.update(choices=titles(), value=objective), _warning(text)
    value = objective if objective in able or not datasets else min(able, key=lambda key: len(OBJECTIVES[key].kinds))
    return gr.update(choices=titles(able), value=value), ""


def kinds_of(owner: Owner, datasets: Sequence[str]) -> set[str]:
    """Return the row kinds of an owner's datasets; a deleted one has none."""
    found = set()
    for name in datasets:
        try:
            found.add(open_dataset(dataset_folder(owner, name)).kind)
        except UserError:
            continue
    return found


def titles(keys: Iterable[str] = tuple(OBJECTIVES)) -> list[tuple[str, str]]:
    """Return objectives for a dropdown."""
    return [(say(f"config.objective.{key}"), key) for key in keys]


def _warning(text: str) -> str:
    return render("note", kind="ts-warn", title="", text=text)


def read(datasets: Sequence[str], values: Mapping[str, Any], rate_named: bool) -> list[dict[str, Any]]:
    """Return the stages that the fields say, as plain values of a config; `rate_named`: the run has a learning rate.

    Raises UserError if a stage has an objective but no data, or data but no objective.
    """
    stages = [{**_objective(0, values), "data": _sources(datasets)}]
    for index in range(1, 1 + FURTHER):
        data, objective, epochs, rate = (
            values[field_name(index, part)] for part in ("data", "objective", "epochs", "rate")
        )
        if not data and not objective:
            continue
        if not data or not objective:
            raise UserError("page.stage_data" if objective else "page.stage_objective", number=index + 1)
        optim = {"epochs": number_in(epochs), "learning_rate": number_in(rate)}
        keep = {name: value for name, value in optim.items() if value is not None}
        keep |= {"learning_rate": None} if rate_named and optim["learning_rate"] is None else {}
        stages.append({**_objective(index, values), "data": _sources(data), **({"optim": keep} if keep else {})})
    return stages


def _sources(datasets: Sequence[str]) -> list[dict[str, str]]:
    return [{"dataset": dataset} for dataset in datasets]


def _objective(index: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stage's objective with those of its settings that differ from their defaults."""
    objective, settings = values[field_name(index, "objective")], {}
    for knob in stage_knobs()[1:]:
        given = plain_value(knob, values[setting_name(index, knob.path)])
        if is_shown(knob, {"stages.objective": objective}) and given != knob.default:
            settings[knob.path.rpartition(".")[2]] = given
    return {"objective": objective, **({objective: settings} if settings else {})}


def fill(config: RunConfig) -> dict[str, Any]:
    """Return the values of all fields for a config, as far as they can show it."""
    begins = config.given_optim(config.stages[0])
    values: dict[str, Any] = {}
    for index in range(1 + FURTHER):
        stage = config.stages[index] if index < len(config.stages) else None
        values |= {field_name(index, "objective"): stage.objective if stage else None}
        values |= {setting_name(index, knob.path): _setting(stage, knob) for knob in stage_knobs()[1:]}
        if index:
            optim = config.given_optim(stage) if stage else None
            epochs = "" if optim is None or optim.epochs == begins.epochs else written(optim.epochs)
            rate = "" if optim is None else written(optim.learning_rate)
            own = {"data": datasets_of(stage) if stage else [], "epochs": epochs, "rate": rate}
            values |= {field_name(index, part): value for part, value in own.items()}
    return values


def _setting(stage: Stage | None, knob: ConfigKnob) -> Any:
    """Return a stage's value of a knob such as `stages.dpo.beta`; the default where the objective is another one."""
    _, objective, name = knob.path.split(".")
    return getattr(stage.settings, name) if stage and objective == stage.objective else knob.default


def datasets_of(stage: Stage) -> list[str]:
    """Return the imported datasets of a stage."""
    return [source.dataset for source in stage.data if source.dataset]


def data_names() -> list[str]:
    """Return the names of the fields for the data of the further stages."""
    return [field_name(index, "data") for index in range(1, 1 + FURTHER)]
