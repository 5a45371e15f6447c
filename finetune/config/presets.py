"""Settings to start from: one preset for each method and each objective, and one of three stages.

The page `docs/training.md` is made from them: `python -m finetune.config.presets > docs/training.md`. Their texts are
in `core/locales/presets.*.json` under `presets.<name>.title` and `presets.<name>.about`.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from core.errors import UserError
from core.words import say
from finetune.config.run_config import RunConfig, validate

FILES = {"sft": "chats.jsonl", "pretrain": "texts.jsonl", "dpo": "preferences.jsonl"}
"""Placeholder names of data files, by objective."""
RawSource = Mapping[str, Any]


@dataclass(frozen=True)
class Preset:
    """`stages` are an objective each with the other settings of the stage, `settings` the other settings of the
    config."""

    name: str
    stages: tuple[Mapping[str, Any], ...] = ({"objective": "sft"},)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title_key(self) -> str:
        return f"presets.{self.name}.title"

    @property
    def about_key(self) -> str:
        return f"presets.{self.name}.about"

    @property
    def objectives(self) -> list[str]:
        return [str(stage["objective"]) for stage in self.stages]

    def config(self, data: Sequence[Sequence[RawSource]]) -> RunConfig:
        """Return the preset's config on the data of each stage."""
        stages = [{**stage, "data": list(sources)} for stage, sources in zip(self.stages, data, strict=True)]
        return validate({**self.settings, "stages": stages})

    def to_yaml(self, files: Sequence[str] = ()) -> str:
        """Return the preset's config as YAML, with one data file for each stage. Raises UserError for the wrong number
        of files; without files, placeholder names are used."""
        if files and len(files) != len(self.stages):
            raise UserError("presets.files", value=len(files), name=self.name, stages=", ".join(self.objectives))
        named = list(files) or [FILES[objective] for objective in self.objectives]
        stages = [{**stage, "data": [{"path": path}]} for stage, path in zip(self.stages, named, strict=True)]
        raw = {"model": RunConfig.model_fields["model"].default, "stages": stages, **self.settings}
        validate(raw)
        return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)


_PREFERENCES = {"objective": "dpo"}
PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("lora", settings={"method": "lora", "lora": {"rank": 16, "alpha": 32}}),
        Preset("rslora", settings={"method": "rslora", "lora": {"rank": 64, "alpha": 16}}),
        Preset("dora", settings={"method": "dora", "lora": {"rank": 16, "alpha": 32}}),
        Preset("loraplus", settings={"method": "loraplus", "loraplus": {"ratio": 16}}),
        Preset(
            "qlora", settings={"method": "qlora", "lora": {"rank": 16, "alpha": 16}, "compute": {"recompute": True}}
        ),
        Preset("freeze", settings={"method": "freeze", "freeze": {"layers": 2}}),
        Preset("full", settings={"method": "full", "optim": {"epochs": 2, "schedule": "cosine"}}),
        Preset("answers", settings={"optim": {"neftune": 5.0, "early_stopping": 3, "keep_best": True}}),
        Preset(
            "text",
            stages=({"objective": "pretrain"},),
            settings={"lora": {"rank": 64, "alpha": 128}, "optim": {"epochs": 1, "schedule": "cosine"}},
        ),
        Preset("preferences", stages=(_PREFERENCES,), settings={"optim": {"epochs": 1}}),
        Preset(
            "preferences-ipo",
            stages=({"objective": "dpo", "dpo": {"loss": "ipo", "beta": 0.1}},),
            settings={"optim": {"epochs": 1}},
        ),
        Preset(
            "staged",
            stages=({"objective": "pretrain"}, {"objective": "sft", "optim": {"epochs": 2}}, _PREFERENCES),
            settings={"lora": {"rank": 32, "alpha": 64}, "optim": {"epochs": 1}},
        ),
    )
}


def preset_named(name: str) -> Preset:
    """Return the preset with this name. Raises UserError that names the nearest."""
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name, PRESETS, 1, 0.5)
    if near:
        raise UserError("presets.unknown_near", value=name[:80], near=near[0])
    raise UserError("presets.unknown", value=name[:80], have=", ".join(PRESETS))


HEAD = """# Training presets

Made by `python -m finetune.config.presets` from `finetune/config/presets.py`; a test keeps the page up to date and runs
each preset on a tiny model. `python -m finetune preset` lists the presets, and
`python -m finetune preset NAME FILE ... > c.yaml` writes the config of a preset, with one data file per stage. On the
Fine-tune tab, "Preset" fills the form with a preset. The settings are described in [knobs.md](knobs.md).

| preset | purpose | stages | settings that differ from the defaults |
|---|---|---|---|
"""


def table() -> str:
    """Return all presets as a Markdown page."""
    return HEAD + "".join(f"{_row(preset)}\n" for preset in PRESETS.values())


def _row(preset: Preset) -> str:
    stages = ", then ".join(f"`{objective}`" for objective in preset.objectives)
    own = [f"stage {number}: {_flow(stage)}" for number, stage in enumerate(preset.stages, 1) if len(stage) > 1]
    changes = [_flow(preset.settings), *own]
    return f"| `{preset.name}` | {say(preset.title_key)}. {say(preset.about_key)} | {stages} | {'; '.join(changes)} |"


def _flow(values: Mapping[str, Any]) -> str:
    kept = {name: value for name, value in values.items() if name != "objective"}
    lines = yaml.safe_dump(kept, sort_keys=False, default_flow_style=True, width=1000).strip()
    return f"`{lines[1:-1]}`"


if __name__ == "__main__":
    print(table(), end="")
