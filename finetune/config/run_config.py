"""RunConfig: every knob of a run, defined here only.

The form, the shell, the YAML, the model card and `docs/knobs.md` derive from it. The texts of a knob are in
`core/locales/config.*.json` under `config.<path>.label` and `config.<path>.help`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from core import settings
from core.errors import UserError
from finetune.config.blocks import BASIC, Compute, Freeze, Limits, Lora, LoraPlus, Optim, Stage, Watch
from finetune.config.data_source import Block, DataSource
from finetune.config.problems import (
    BLOCK_NOT_CHOSEN,
    ROW_EACH,
    SHARDED_ALONE,
    refusal,
    refuse_broken_texts,
    refuse_secrets,
    typed_problem,
)
from finetune.config.yaml_reader import apply_change, nest, read_mapping
from finetune.methods import BLOCKS, METHODS
from finetune.objectives import OBJECTIVES

__all__ = [
    "GROUPS",
    "ConfigKnob",
    "DataSource",
    "RunConfig",
    "Stage",
    "knobs",
    "load_yaml",
    "nest",
    "stage_knobs",
    "to_yaml",
    "validate",
]


VERSION = 1
"""The version of the format. It is raised when an older program would misread a config."""
AUTO = ("optim.learning_rate", "watch.evaluate_every", "watch.checkpoint_every")
"""Optional fields whose empty value means a computed one; an empty value of the others turns the setting off."""

GROUPS = {
    "stages": "objective",
    "limits": "data",
    "seed": "data",
    "lora": "adapter",
    "loraplus": "adapter",
    "freeze": "layers",
    "optim": "optimizer",
    "compute": "compute",
    "watch": "logging",
}
"""The group of a knob by the first part of its path, in the order of the form's headings (`config.group.<group>`)."""


class RunConfig(Block):
    """All settings of a run. Frozen; unknown fields, and blocks of a method that was not chosen, are errors."""

    version: int = Field(default=VERSION, ge=1, le=VERSION)
    model: str = Field(default=settings.DEFAULT_MODEL, min_length=1, max_length=300, json_schema_extra=BASIC)
    stages: list[Stage] = Field(min_length=1, max_length=16)
    method: Literal["lora", "rslora", "dora", "loraplus", "qlora", "freeze", "full"] = Field(
        default="lora", json_schema_extra=BASIC
    )
    limits: Limits = Limits()
    lora: Lora | None = None
    loraplus: LoraPlus | None = None
    freeze: Freeze | None = None
    optim: Optim = Optim()
    compute: Compute = Compute()
    watch: Watch = Watch()
    seed: int = Field(default=0, ge=0, le=2**31 - 1)

    @model_validator(mode="before")
    @classmethod
    def _method_blocks(cls, raw: Any) -> Any:
        """Fill in the blocks of the chosen method; refuse the block of another."""
        if not isinstance(raw, dict):
            return raw
        method = raw.get("method", "lora")
        chosen = METHODS.get(method) if isinstance(method, str) else None
        for name in BLOCKS:
            if raw.get(name) is not None and (chosen is None or name not in chosen.blocks):
                with_it = ", ".join(entry.key for entry in METHODS.values() if name in entry.blocks)
                raise typed_problem(BLOCK_NOT_CHOSEN, block=name, method=str(method)[:40], with_it=with_it)
        return {**raw, **{name: raw.get(name) or {} for name in chosen.blocks}} if chosen else raw

    @model_validator(mode="after")
    def _rows_for_all(self) -> "RunConfig":
        """Refuse a batch with fewer rows than processes, and sharding on a single process."""
        processes = self.compute.processes
        for stage in self.stages:
            rows = self.optim_of(stage).batch_size
            if rows < processes:
                raise typed_problem(ROW_EACH, field="optim.batch_size", value=str(rows), processes=processes)
        if self.compute.sharding != "none" and processes == 1:
            raise typed_problem(SHARDED_ALONE, field="compute.sharding", value=self.compute.sharding)
        return self

    def optim_of(self, stage: Stage) -> Optim:
        """Return the optimizer settings of a stage, with the method's learning rate filled in."""
        optim = self.given_optim(stage)
        if optim.learning_rate is None:
            rate = METHODS[self.method].learning_rate * OBJECTIVES[stage.objective].lr_scale
            optim = optim.model_copy(update={"learning_rate": float(f"{rate:.3g}")})
        return optim

    def given_optim(self, stage: Stage) -> Optim:
        """Return the optimizer settings of a stage as given: a learning rate that is auto is None."""
        named = stage.optim.model_fields_set if stage.optim else set()
        return self.optim.model_copy(update={name: getattr(stage.optim, name) for name in named})

    def optim_path(self, number: int, name: str) -> str:
        """Return where an optimizer setting of stage `number` (from 0) is set: in the stage, or for the run."""
        own = self.stages[number].optim
        return f"stages.{number}.optim.{name}" if own and name in own.model_fields_set else f"optim.{name}"

    @property
    def sources(self) -> list[DataSource]:
        """The data sources of all stages, without duplicates."""
        return list(dict.fromkeys(source for stage in self.stages for source in stage.data))

    def with_datasets(self, ids: dict[DataSource, str]) -> "RunConfig":
        """Return the same config with each source replaced by the id of the dataset it was imported to."""
        stages = [
            stage.model_copy(update={"data": [DataSource(dataset=ids[source]) for source in stage.data]})
            for stage in self.stages
        ]
        return self.model_copy(update={"stages": stages})


def validate(raw: Any) -> RunConfig:
    """Return the RunConfig of nested plain values. Raises one UserError that lists every problem."""
    refuse_secrets(raw)
    refuse_broken_texts(raw)
    _refuse_newer(raw)
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        raise refusal(error, RunConfig) from None


def _refuse_newer(raw: Any) -> None:
    """Raise UserError for a config of a later version, before validation: other problems in it would follow from
    that."""
    version = raw.get("version") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise UserError("config.newer", value=str(version)[:20], known=VERSION)


def load_yaml(text: str | bytes, folder: Path | None = None, changes: tuple[str, ...] = ()) -> RunConfig:
    """Read a config: at most 64 KB of plain YAML; relative paths are relative to `folder`.

    `changes` are changes such as `optim.epochs=2`, applied before validation. Raises UserError.
    """
    raw = read_mapping(text)
    for change in changes:
        apply_change(raw, change)
    config = validate(raw)
    return config.model_copy(update={"stages": [_placed(stage, folder) for stage in config.stages]})


def to_yaml(config: RunConfig) -> str:
    """Return the config as YAML that `load_yaml` reads back to an equal one."""
    raw = config.model_dump(mode="json", exclude_none=True, exclude={"stages"})
    stages = [_stage_values(stage) for stage in config.stages]
    raw = {
        "version": raw.pop("version"),
        "model": raw.pop("model"),
        "stages": [{"objective": "sft", **stage} for stage in stages],
        **raw,
    }
    return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)


def _stage_values(stage: Stage) -> dict[str, Any]:
    """Return the settings that a stage names. In its `optim` a null has a meaning: auto in place of the run's own."""
    values = stage.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    if stage.optim is not None:
        values["optim"] = stage.optim.model_dump(mode="json", exclude_unset=True)
    return values


def _placed(stage: Stage, folder: Path | None) -> Stage:
    return stage.model_copy(update={"data": [_located(source, folder) for source in stage.data]})


def _located(source: DataSource, folder: Path | None) -> DataSource:
    """Turn a file's path into an absolute one; refuse it where the machine's files are not the reader's."""
    if source.path is None:
        return source
    if settings.on_space():
        raise UserError("config.path_on_space", value=source.path[:80])
    try:
        path = Path(source.path).expanduser()
    except RuntimeError:
        raise UserError("run.file_missing", value=source.path[:80]) from None
    if not path.is_absolute() and folder is None:
        raise UserError("config.path_relative", value=source.path[:80])
    return source.model_copy(update={"path": str((folder or Path()) / path)})


@dataclass(frozen=True)
class ConfigKnob:
    """What a form or a table needs to know of one field. `type`: integer, number, boolean, choice, text or texts.

    `optional` fields may be None: then the value is chosen automatically if `auto`, and otherwise nothing is set.
    `shown_when` is a field and the values it may have.
    """

    path: str
    type: str
    default: Any
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    optional: bool
    tier: str
    shown_when: tuple[str, tuple[str, ...]] | None
    label: str
    help: str

    @property
    def group(self) -> str | None:
        """The group of `GROUPS` that the knob belongs to; None for the model and the method."""
        return GROUPS.get(self.path.partition(".")[0])

    @property
    def auto(self) -> bool:
        """Whether an empty field means a value that the run chooses, such as a learning rate for the method."""
        return self.path in AUTO


def knobs() -> list[ConfigKnob]:
    """Return every knob in the order of the config; `version` is not a knob, and `stage_knobs` returns those of a
    stage."""
    found: list[ConfigKnob] = []
    for name, field in RunConfig.model_fields.items():
        block = _block(field)
        if name in ("stages", "version"):
            continue
        if block is None:
            found.append(_knob(name, field, None))
        else:
            shown = ("method", tuple(key for key in METHODS if name in METHODS[key].blocks)) if name in BLOCKS else None
            found += [_knob(f"{name}.{inner}", inside, shown) for inner, inside in block.model_fields.items()]
    return found


def stage_knobs() -> list[ConfigKnob]:
    """Return the knobs of one stage: its objective, then each objective's settings, which are shown with that objective
    only.

    The settings of `optim` may also stand in a stage, but are no knobs of their own there.
    """
    found = [_knob("stages.objective", Stage.model_fields["objective"], None)]
    for name in OBJECTIVES:
        block = _block(Stage.model_fields[name])
        assert block is not None, "each objective has its block"
        shown = ("stages.objective", (name,))
        found += [_knob(f"stages.{name}.{inner}", field, shown) for inner, field in block.model_fields.items()]
    return found


def _types(field: FieldInfo) -> tuple[Any, ...]:
    annotation = field.annotation
    union = getattr(annotation, "__args__", ()) if type(None) in getattr(annotation, "__args__", ()) else (annotation,)
    return tuple(part for part in union if part is not type(None))


def _block(field: FieldInfo) -> type[Block] | None:
    kind = _types(field)[0]
    return kind if isinstance(kind, type) and issubclass(kind, Block) else None


def _knob(path: str, field: FieldInfo, shown_when: tuple[str, tuple[str, ...]] | None) -> ConfigKnob:
    kind = _types(field)[0]
    choices = kind.__args__ if getattr(kind, "__origin__", None) is Literal else ()
    names = {int: "integer", float: "number", bool: "boolean", str: "text"}
    bound = {key: getattr(rule, key) for rule in field.metadata for key in ("ge", "gt", "le") if hasattr(rule, key)}
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return ConfigKnob(
        path=path,
        type="choice" if choices else names.get(kind, "texts"),
        default=field.get_default(call_default_factory=True),
        minimum=bound.get("ge", bound.get("gt")),
        maximum=bound.get("le"),
        choices=tuple(choices),
        optional=type(None) in getattr(field.annotation, "__args__", ()),
        tier=str(extra.get("tier", "advanced")),
        shown_when=shown_when,
        label=f"config.{path}.label",
        help=f"config.{path}.help",
    )
