"""The blocks of a RunConfig: what is used of the data, what is trained, how it moves, where it is computed.

The words of a knob stand in `core/locales/config.*.json` under `config.<path>.label` and `config.<path>.help`.
"""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator
from pydantic.config import JsonDict

from finetune.config.data_source import Block, DataSource
from finetune.config.problems import DEVICE, FREEZE_NOTHING, NOT_A_PATTERN, OBJECTIVE_BLOCK, typed_problem

BASIC: JsonDict = {"tier": "basic"}
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,2})?")


class Limits(Block):
    """What of the data is used: the first `max_rows` rows in file order, of which `validation` is split off by seed."""

    max_rows: int | None = Field(default=None, ge=1, le=100_000_000)
    max_length: int = Field(default=1024, ge=16, le=1_000_000, json_schema_extra=BASIC)
    validation: float = Field(default=0.1, ge=0, le=0.5, json_schema_extra=BASIC)


class Lora(Block):
    """Low-rank adapters (Hu et al. 2021): the base stays as it is, two thin matrices beside each layer are learned.

    `target_modules` names layers (the last part of their name) in place of one of the usual sets.
    """

    rank: int = Field(default=16, ge=1, le=1024, json_schema_extra=BASIC)
    alpha: int = Field(default=32, ge=1, le=4096)
    dropout: float = Field(default=0, ge=0, le=0.9)
    targets: Literal["all-linear", "attention", "mlp"] = "all-linear"
    target_modules: list[str] = Field(default_factory=list, max_length=64)


class LoraPlus(Block):
    """LoRA+ (Hayou et al. 2024): the second matrix, which begins at zero, learns `ratio` times as fast."""

    ratio: float = Field(default=16, ge=1, le=1000)


class Freeze(Block):
    """Part of the model is trained as it is, the rest is frozen: the last `layers` layers, the embeddings, the head,
    and every weight whose name `pattern` (a regular expression) is found in."""

    layers: int = Field(default=2, ge=0, le=1000, json_schema_extra=BASIC)
    embeddings: bool = False
    head: bool = False
    pattern: str | None = Field(default=None, max_length=300)

    @field_validator("pattern")
    @classmethod
    def _regular(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise typed_problem(NOT_A_PATTERN, reason=str(error)) from None
        return pattern or None

    @model_validator(mode="after")
    def _something(self) -> "Freeze":
        if not (self.layers or self.embeddings or self.head or self.pattern):
            raise typed_problem(FREEZE_NOTHING, field="freeze.layers", value="0")
        return self


class Optim(Block):
    """How the weights move. Without `learning_rate` the method's own is used (see `finetune/methods.py`).

    `neftune` is the strength of the noise on the embeddings (Jain et al. 2023); `early_stopping` ends a stage after so
    many evaluations without a better one; `keep_best` goes back to the best one at its end.
    """

    epochs: float = Field(default=3, ge=0.01, le=10_000, json_schema_extra=BASIC)
    max_steps: int | None = Field(default=None, ge=1, le=100_000_000)
    learning_rate: float | None = Field(default=None, gt=0, le=1, json_schema_extra=BASIC)
    batch_size: int = Field(default=8, ge=1, le=4096, json_schema_extra=BASIC)
    gradient_accumulation: int = Field(default=1, ge=1, le=4096)
    schedule: Literal["linear", "cosine", "constant", "inverse-sqrt", "warmup-stable-decay"] = "linear"
    warmup: float = Field(default=0.05, ge=0, le=0.9)
    weight_decay: float = Field(default=0, ge=0, le=10)
    max_grad_norm: float = Field(default=1, ge=0.001, le=1_000_000)
    neftune: float | None = Field(default=None, gt=0, le=100)
    early_stopping: int | None = Field(default=None, ge=1, le=1000)
    keep_best: bool = False


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


class Sft(Block):
    """What carries loss in a conversation: each answer, the last answer alone, or every token."""

    learn: Literal["answers", "last-answer", "everything"] = "answers"


class Pretrain(Block):
    """Plain text, all of it learned. Packed, short documents share a row, and none sees another."""

    packing: bool = True


class Dpo(Block):
    """Direct preference optimisation (Rafailov et al. 2023), or IPO (Azar et al. 2023). `beta` holds it to the model
    that it begins from."""

    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    beta: float = Field(default=0.1, gt=0, le=100)
    label_smoothing: float = Field(default=0, ge=0, le=0.49)


class Stage(Block):
    """One objective on its data mix. What `optim` names here takes the place of the run's own; the block named after
    the objective holds its settings."""

    objective: Literal["sft", "pretrain", "dpo"] = "sft"
    data: list[DataSource] = Field(min_length=1, max_length=32)
    optim: Optim | None = None
    sft: Sft | None = None
    pretrain: Pretrain | None = None
    dpo: Dpo | None = None

    @model_validator(mode="after")
    def _own_block(self) -> "Stage":
        for name in ("sft", "pretrain", "dpo"):
            if name != self.objective and getattr(self, name) is not None:
                raise typed_problem(OBJECTIVE_BLOCK, block=name, objective=self.objective)
        return self

    @property
    def settings(self) -> Sft | Pretrain | Dpo:
        """The block of the objective, with its defaults where the stage has none."""
        return getattr(self, self.objective) or {"sft": Sft, "pretrain": Pretrain, "dpo": Dpo}[self.objective]()
