"""The form of a run, drawn from `finetune.config.knobs()`: label, help, default, tier and condition stand there,
once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from core.errors import UserError
from finetune.config import Knob, RunConfig, knobs, validate
from finetune.plain_yaml import nest
from ui.language import words

WIDTHS = {"text": 280, "texts": 280}


@dataclass
class Form:
    """The form's fields by knob path, in the order of the knobs."""

    knobs: list[Knob]
    fields: dict[str, Any]

    @property
    def inputs(self) -> list:
        """All fields, in the order that `read` and `fill` take."""
        return list(self.fields.values())

    def conditional(self) -> list[Knob]:
        """The knobs that show only when something was chosen."""
        return [knob for knob in self.knobs if knob.shown_when]


def draw_basic(known: list[Knob]) -> dict[str, Any]:
    """The knobs that everybody looks at, without their help, in one wrapping row."""
    with gr.Row(elem_classes="ts-basic"):
        return {knob.path: _field(knob, help=False) for knob in known if knob.tier == "basic"}


def draw_advanced(known: list[Knob]) -> dict[str, Any]:
    """The others, with their help."""
    with gr.Row(elem_classes="ts-advanced"):
        return {knob.path: _field(knob, help=True) for knob in known if knob.tier != "basic"}


def _field(knob: Knob, help: bool) -> Any:
    common = {
        "label": words(knob.label),
        "info": words(knob.help) if help else None,
        "elem_id": f"knob-{knob.path.replace('.', '-')}",
        "visible": _shown(knob, {known.path: known.default for known in knobs()}),
        "min_width": 230 if help else WIDTHS.get(knob.type, 130),
    }
    match knob.type:
        case "integer" | "number" if knob.optional:
            return gr.Textbox(_written(knob.default), max_lines=1, placeholder=words("page.chosen_for_you"), **common)
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


def _written(value: Any) -> str:
    """An optional number as text: a number field would show 0 where nothing is chosen."""
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _shown(knob: Knob, values: dict[str, Any]) -> bool:
    return knob.shown_when is None or values.get(knob.shown_when[0]) in knob.shown_when[1]


def visibility(chosen: dict[str, Any]) -> list[dict]:
    """For each conditional knob, whether it shows under the values chosen."""
    return [gr.update(visible=_shown(knob, chosen)) for knob in knobs() if knob.shown_when]


def read(datasets: Sequence[str] | None, values: Sequence[Any]) -> RunConfig:
    """The config that the form says. Raises UserError with every problem, also where no data is chosen."""
    if not datasets:
        raise UserError("page.choose_data")
    known = knobs()
    given = {knob.path: _plain(knob, value) for knob, value in zip(known, values, strict=True)}
    kept = {
        knob.path: given[knob.path]
        for knob in known
        if _shown(knob, given) and not (given[knob.path] is None and knob.optional)
    }
    stage = {"objective": "sft", "data": [{"dataset": dataset} for dataset in datasets]}
    return validate({**nest(kept), "stages": [stage]})


def _plain(knob: Knob, value: Any) -> Any:
    """What a Gradio field gives, as a config has it."""
    if knob.type == "texts":
        return [line.strip() for line in str(value or "").splitlines() if line.strip()]
    if knob.type == "text":
        return str(value or "").strip() or (None if knob.optional else knob.default)
    if knob.optional and isinstance(value, str) and knob.type in ("integer", "number"):
        return _number(value.strip())
    if knob.type == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _number(text: str) -> Any:
    """The number in a text field; what is none stays as typed, and the config says what is wrong with it."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None


def fill(config: RunConfig) -> list[Any]:
    """The form's values for a config, in the order of the fields."""
    settings = (
        config.model_copy(update={"optim": config.optim_of(config.stages[0])}) if config.stages[0].optim else config
    )
    values = []
    for knob in knobs():
        value = _at(settings, knob)
        if knob.type == "texts":
            value = "\n".join(value or ())
        elif knob.optional and knob.type in ("integer", "number"):
            value = _written(value)
        values.append(value)
    return values


def _at(config: RunConfig, knob: Knob) -> Any:
    value: Any = config
    for name in knob.path.split("."):
        if value is None:
            return knob.default
        value = getattr(value, name)
    return value
