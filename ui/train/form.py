"""The form of a run: the knobs of its config, its stages, and a config that it cannot show, kept unchanged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from core.errors import UserError
from finetune.config.run_config import GROUPS, ConfigKnob, RunConfig, knobs, load_yaml, to_yaml, validate
from finetune.config.yaml_reader import nest
from ui.parts.wiring import Parts
from ui.train import stages_form
from ui.train.knob_fields import draw_field, group, is_shown, plain_value, shown_value
from ui.train.stages_form import Stages

KEPT = "kept"
"""The name of the field that holds a config that the form cannot show."""


@dataclass
class Form:
    """The form's fields by knob path; its stages; and `kept`, the YAML of a config that the form cannot show, which
    then counts in place of all fields."""

    knobs: list[ConfigKnob]
    fields: dict[str, Any]
    stages: Stages
    kept: gr.State

    @property
    def inputs(self) -> Parts:
        """All fields, by the names that `read` and `fill` have for their values."""
        return {**self.fields, **self.stages.inputs, KEPT: self.kept}

    def conditional(self) -> list[ConfigKnob]:
        """Return the knobs that show only under certain choices."""
        return [knob for knob in self.knobs if knob.shown_when]


def draw_basic(known: list[ConfigKnob]) -> dict[str, Any]:
    """Draw the basic knobs, without their help, in one wrapping row."""
    with gr.Row(elem_classes="ts-basic"):
        return {knob.path: _field(knob, help=False) for knob in known if knob.tier == "basic"}


def draw_advanced(known: list[ConfigKnob]) -> dict[str, Any]:
    """Draw the other knobs, with their help, under the headings of their groups."""
    fields: dict[str, Any] = {}
    advanced = [knob for knob in known if knob.tier != "basic"]
    for name in dict.fromkeys(GROUPS.values()):
        inside = [knob for knob in advanced if knob.group == name]
        if inside:
            with group(name):
                fields |= {knob.path: _field(knob, help=True) for knob in inside}
    return fields


def _field(knob: ConfigKnob, help: bool) -> Any:
    return draw_field(knob, help=help, visible=is_shown(knob, {known.path: known.default for known in knobs()}))


def visibility(chosen: dict[str, Any]) -> dict[str, dict]:
    """Return for each conditional knob, by path, whether it shows under the values chosen."""
    return {knob.path: gr.update(visible=is_shown(knob, chosen)) for knob in knobs() if knob.shown_when}


def read(datasets: Sequence[str] | None, values: Mapping[str, Any]) -> RunConfig:
    """Return the config that the form says, or the one that is kept. Raises UserError with every problem, also where
    no data is chosen."""
    kept = values.get(KEPT)
    if kept and isinstance(kept, str):
        return load_yaml(kept)
    if not datasets:
        raise UserError("page.choose_data")
    return _config_of(datasets, values)


def _config_of(datasets: Sequence[str], values: Mapping[str, Any]) -> RunConfig:
    known = knobs()
    given = {knob.path: plain_value(knob, values[knob.path]) for knob in known}
    shown = {
        knob.path: given[knob.path]
        for knob in known
        if is_shown(knob, given) and not (given[knob.path] is None and knob.optional)
    }
    rate_named = "optim.learning_rate" in shown
    return validate({**nest(shown), "stages": stages_form.read(datasets, values, rate_named)})


def fill(config: RunConfig) -> dict[str, Any]:
    """Return the form's values for a config, by the names of the fields; where they would say another config,
    `KEPT` holds this one as YAML."""
    begins = config.model_copy(update={"optim": config.given_optim(config.stages[0])})
    values = {knob.path: shown_value(knob, _at(begins, knob)) for knob in knobs()} | stages_form.fill(config)
    return values | {KEPT: None if _shows(config, values) else to_yaml(config)}


def _shows(config: RunConfig, values: Mapping[str, Any]) -> bool:
    """Return whether the fields say what a config comes to."""
    try:
        said = _config_of(stages_form.datasets_of(config.stages[0]), values)
    except UserError:
        return False
    return _effect(said) == _effect(config)


def _effect(config: RunConfig) -> tuple:
    """Return the effect of a config, stage by stage, however it is written."""
    stages = [(stage.objective, stage.data, stage.settings, config.optim_of(stage)) for stage in config.stages]
    return config.model_dump(exclude={"stages", "optim"}), stages


def _at(config: RunConfig, knob: ConfigKnob) -> Any:
    value: Any = config
    for name in knob.path.split("."):
        if value is None:
            return knob.default
        value = getattr(value, name)
    return value
