"""Decoding presets: a column of Compare as the `generation_config.json` that `generate` and its friends read.

The first preset is the model's default; the others are under `presets/` and are loaded by name.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import read_json, write_json
from core.words import say
from finetune.publish.formats.build_folder import BuildProgress
from finetune.publish.formats.trained_run import done
from finetune.publish.kinds.request import Cost, PreparedBuild, Request
from inference.strategies.table import MAX_COLUMNS, STRATEGIES, ColumnSpec, known_knobs, parse_column

MAIN = "generation_config.json"
_SIZE = 2048
_ENDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
_Known = Callable[[ColumnSpec], dict[str, Any]]


def _neutral(*names: str) -> dict[str, Any]:
    """Return the settings of `generate` that turn these knobs off."""
    knobs = known_knobs()
    return {knobs[name].generate_name: knobs[name].neutral for name in names}


def _given(spec: ColumnSpec) -> dict[str, Any]:
    """Return the column's settings as `generate` names them. Raises UserError for one that `generate` lacks and that
    has an effect."""
    knobs = known_knobs()
    lacking = [name for name in spec.knobs if not knobs[name].generate_name and spec.has_effect(name)]
    if lacking:
        raise UserError("kinds.setting_not_in_generate", value=spec.name, names=", ".join(lacking))
    return {knobs[name].generate_name: value for name, value in spec.knobs.items() if knobs[name].generate_name}


def _greedy(spec: ColumnSpec) -> dict[str, Any]:
    return {"do_sample": False, **_neutral("num_beams"), **_given(spec)}


def _beam(spec: ColumnSpec) -> dict[str, Any]:
    return {"do_sample": False, **_given(spec)}


def _sample(spec: ColumnSpec) -> dict[str, Any]:
    """Return the settings of a sampling column. Filters it does not set are turned off: by default `generate` uses 50
    for `top_k`."""
    return {"do_sample": True, **_neutral("num_beams", "temperature", "top_k", "top_p"), **_given(spec)}


GENERATE: dict[str, _Known] = {
    "greedy": _greedy,
    "beam": _beam,
    **dict.fromkeys(("sample", "top_k", "nucleus", "min_p", "typical"), _sample),
}


def first(columns: tuple[str, ...]) -> ColumnSpec | None:
    """Return the default preset; None where there is none. Raises UserError for an invalid line."""
    return parse_column(columns[0]) if columns else None


def generation_config(spec: ColumnSpec) -> dict[str, Any]:
    """Return the settings with which `generate` decodes as the column does. Raises UserError for a strategy or a
    setting that it lacks."""
    known = GENERATE.get(spec.strategy)
    if known is None:
        names = ", ".join(key for key in STRATEGIES if key in GENERATE)
        raise UserError("kinds.not_in_generate", value=spec.strategy, known=names)
    return known(spec)


def file_name(spec: ColumnSpec) -> str:
    """Return the path of a further preset: `presets/nucleus-top_p-0.9-temperature-0.8.json`."""
    words = [word for word in spec.name.split() if not word.startswith("model=")]
    return f"presets/{re.sub(r'[^A-Za-z0-9._-]+', '-', '-'.join(words))[:80]}.json"


def prepare(request: Request) -> PreparedBuild:
    """Prepare the presets. Raises UserError for no column, too many, an invalid line, a strategy that `generate`
    lacks."""
    done(request.run)
    columns = request.options.columns
    if not 1 <= len(columns) <= MAX_COLUMNS:
        raise UserError("kinds.no_preset", value=len(columns), maximum=MAX_COLUMNS)
    specs = [parse_column(column) for column in columns]
    names = [MAIN, *(file_name(spec) for spec in specs[1:])]
    contents = dict(zip(names, map(generation_config, specs), strict=True))
    ends = ends_of(request.run.model)

    def write(folder: Path, progress: BuildProgress) -> dict[str, Any]:
        for name, content in contents.items():
            progress.step(say("kinds.writing", file=name))
            write_json(folder / name, {**ends, **content})
            progress.add(_SIZE)
        return {"presets": {name: spec.name for name, spec in zip(names, specs, strict=True)}}

    return PreparedBuild(Cost(dict.fromkeys(contents, _SIZE)), write)


def ends_of(model: Path) -> dict[str, Any]:
    """Return the special tokens that start and end a model's text, as its own generation config names them."""
    path = model / MAIN
    values = read_json(path) if path.is_file() else {}
    return {name: values[name] for name in _ENDS if values.get(name) is not None}
