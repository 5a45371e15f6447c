"""RunConfig: every knob of a run, written once, here.

The form, the shell, the YAML, the model card and `docs/knobs.md` derive from it. The words of a knob stand in
`core/locales/config.*.json` under `config.<path>.label` and `config.<path>.help`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from core import settings
from core.errors import UserError
from finetune.data_source import Block, DataSource
from finetune.methods import METHODS
from finetune.plain_yaml import apply_change, nest, read_mapping
from finetune.problems import (
    BLOCK_NOT_CHOSEN,
    DEVICE,
    ONE_STAGE,
    ROW_EACH,
    SHARDED_ALONE,
    refusal,
    refuse_broken_texts,
    refuse_secrets,
    typed_problem,
)

__all__ = ["DataSource", "Knob", "RunConfig", "Stage", "knobs", "load_yaml", "nest", "to_yaml", "validate"]

BASIC: JsonDict = {"tier": "basic"}
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,2})?")


class Limits(Block):
    """What of the data is used: the first `max_rows` rows in file order, of which `validation` is split off by seed."""

    max_rows: int | None = Field(default=None, ge=1, le=100_000_000)
    max_length: int = Field(default=1024, ge=16, le=1_000_000, json_schema_extra=BASIC)
    validation: float = Field(default=0.1, ge=0, le=0.5, json_schema_extra=BASIC)


class Lora(Block):
    """Low-rank adapters (Hu et al. 2021): the base stays as it is, two thin matrices beside each layer are learned."""

    rank: int = Field(default=16, ge=1, le=1024, json_schema_extra=BASIC)
    alpha: int = Field(default=32, ge=1, le=4096)
    dropout: float = Field(default=0, ge=0, le=0.9)
    targets: Literal["all-linear", "attention", "mlp"] = "all-linear"


class Optim(Block):
    """How the weights move. Without `learning_rate` the method's own is used (see `finetune/methods.py`)."""

    epochs: float = Field(default=3, ge=0.01, le=10_000, json_schema_extra=BASIC)
    max_steps: int | None = Field(default=None, ge=1, le=100_000_000)
    learning_rate: float | None = Field(default=None, ge=0, le=1, json_schema_extra=BASIC)
    batch_size: int = Field(default=8, ge=1, le=4096, json_schema_extra=BASIC)
    gradient_accumulation: int = Field(default=1, ge=1, le=4096)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = Field(default=0.05, ge=0, le=0.9)
    weight_decay: float = Field(default=0, ge=0, le=10)
    max_grad_norm: float = Field(default=1, ge=0.001, le=1_000_000)


class Compute(Block):
    """Where and how precisely it is computed."""

    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    recompute: bool = False
    processes: int = Field(default=1, ge=1, le=64)
    sharding: Literal["none", "fsdp"] = "none"

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if not _DEVICE.fullmatch(device):
            raise typed_problem(DEVICE)
        return device


class Watch(Block):
    """What is written down while it runs. Intervals are in steps; without one it is a tenth of the run."""

    log_every: int = Field(default=1, ge=1, le=100_000)
    evaluate_every: int | None = Field(default=None, ge=1, le=100_000_000)
    checkpoint_every: int | None = Field(default=None, ge=1, le=100_000_000)
    samples: list[str] = Field(default_factory=list, max_length=8)
    sample_tokens: int = Field(default=48, ge=1, le=1024)


class Stage(Block):
    """One objective on its data mix. What `optim` names here takes the place of the run's own."""

    objective: Literal["sft"] = "sft"
    data: list[DataSource] = Field(min_length=1, max_length=32)
    optim: Optim | None = None


class RunConfig(Block):
    """Everything a run is told. Frozen; unknown fields, and blocks of a method that was not chosen, are errors."""

    model: str = Field(default=settings.DEFAULT_MODEL, min_length=1, max_length=300, json_schema_extra=BASIC)
    stages: list[Stage] = Field(min_length=1, max_length=16)
    method: Literal["lora", "full"] = Field(default="lora", json_schema_extra=BASIC)
    limits: Limits = Limits()
    lora: Lora | None = None
    optim: Optim = Optim()
    compute: Compute = Compute()
    watch: Watch = Watch()
    seed: int = Field(default=0, ge=0, le=2**31 - 1)

    @model_validator(mode="before")
    @classmethod
    def _method_block(cls, raw: Any) -> Any:
        """Fill in the block of the chosen method; refuse the block of another."""
        if not isinstance(raw, dict):
            return raw
        method = raw.get("method", "lora")
        for name in METHODS:
            if name != method and raw.get(name) is not None:
                raise typed_problem(BLOCK_NOT_CHOSEN, block=name, method=str(method)[:40])
        chosen = METHODS.get(method) if isinstance(method, str) else None
        return {**raw, chosen.block: raw.get(chosen.block) or {}} if chosen and chosen.block else raw

    @field_validator("stages")
    @classmethod
    def _one_stage(cls, stages: list[Stage]) -> list[Stage]:
        if len(stages) > 1:
            raise typed_problem(ONE_STAGE, count=len(stages))
        return stages

    @model_validator(mode="after")
    def _rows_for_all(self) -> "RunConfig":
        """Each process needs a row of each batch, and sharding needs several processes."""
        processes = self.compute.processes
        for stage in self.stages:
            rows = self.optim_of(stage).batch_size
            if rows < processes:
                raise typed_problem(ROW_EACH, field="optim.batch_size", value=str(rows), processes=processes)
        if self.compute.sharding != "none" and processes == 1:
            raise typed_problem(SHARDED_ALONE, field="compute.sharding", value=self.compute.sharding)
        return self

    def optim_of(self, stage: Stage) -> Optim:
        """The optimiser's settings of a stage, the method's learning rate filled in."""
        named = stage.optim.model_fields_set if stage.optim else set()
        optim = self.optim.model_copy(update={name: getattr(stage.optim, name) for name in named})
        if optim.learning_rate is None:
            optim = optim.model_copy(update={"learning_rate": METHODS[self.method].learning_rate})
        return optim

    def with_datasets(self, ids: dict[DataSource, str]) -> "RunConfig":
        """The same config with each source replaced by the id of the dataset it was imported to."""
        stages = [
            stage.model_copy(update={"data": [DataSource(dataset=ids[source]) for source in stage.data]})
            for stage in self.stages
        ]
        return self.model_copy(update={"stages": stages})


def validate(raw: Any) -> RunConfig:
    """Make a RunConfig of nested plain values. Raises one UserError that lists every problem."""
    refuse_secrets(raw)
    refuse_broken_texts(raw)
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        raise refusal(error, RunConfig) from None


def load_yaml(text: str | bytes, folder: Path | None = None, changes: tuple[str, ...] = ()) -> RunConfig:
    """Read a config: at most 64 KB of plain YAML, relative paths seen from `folder`.

    `changes` are `optim.epochs=2`, applied before validation. Raises UserError.
    """
    raw = read_mapping(text)
    for change in changes:
        apply_change(raw, change)
    config = validate(raw)
    return config.model_copy(update={"stages": [_placed(stage, folder) for stage in config.stages]})


def to_yaml(config: RunConfig) -> str:
    """The config as YAML that `load_yaml` reads back to an equal one."""
    raw = config.model_dump(mode="json", exclude_none=True, exclude={"stages"})
    stages = [stage.model_dump(mode="json", exclude_none=True, exclude_unset=True) for stage in config.stages]
    raw = {"model": raw.pop("model"), "stages": [{"objective": "sft", **stage} for stage in stages], **raw}
    return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)


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
class Knob:
    """What a form or a table needs to know of one field. `type`: integer, number, boolean, choice, text or texts.

    `optional` fields may be None, which means "chosen for you". `shown_when` is a field and the value it must have.
    """

    path: str
    type: str
    default: Any
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    optional: bool
    tier: str
    shown_when: tuple[str, str] | None
    label: str
    help: str


def knobs() -> list[Knob]:
    """Every knob in the order of the config; `stages` (data and objectives) is no knob."""
    found: list[Knob] = []
    for name, field in RunConfig.model_fields.items():
        block = _block(field)
        if name == "stages":
            continue
        if block is None:
            found.append(_knob(name, field, None))
        else:
            shown = ("method", name) if name in METHODS else None
            found += [_knob(f"{name}.{inner}", inside, shown) for inner, inside in block.model_fields.items()]
    return found


def _types(field: FieldInfo) -> tuple[Any, ...]:
    annotation = field.annotation
    union = getattr(annotation, "__args__", ()) if type(None) in getattr(annotation, "__args__", ()) else (annotation,)
    return tuple(part for part in union if part is not type(None))


def _block(field: FieldInfo) -> type[Block] | None:
    kind = _types(field)[0]
    return kind if isinstance(kind, type) and issubclass(kind, Block) else None


def _knob(path: str, field: FieldInfo, shown_when: tuple[str, str] | None) -> Knob:
    kind = _types(field)[0]
    choices = kind.__args__ if getattr(kind, "__origin__", None) is Literal else ()
    names = {int: "integer", float: "number", bool: "boolean", str: "text"}
    bound = {key: getattr(rule, key) for rule in field.metadata for key in ("ge", "gt", "le") if hasattr(rule, key)}
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return Knob(
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
