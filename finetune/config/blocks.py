"""The blocks of a RunConfig: the rows used, the weights trained, the optimizer, the device.

The texts of a knob are in `core/locales/config.*.json` under `config.<path>.label` and `config.<path>.help`.
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
    """The rows that are used: the first `max_rows` rows in file order, of which the share `validation` is held out,
    chosen by seed."""

    max_rows: int | None = Field(default=None, ge=1, le=100_000_000)
    max_length: int = Field(default=1024, ge=16, le=1_000_000, json_schema_extra=BASIC)
    validation: float = Field(default=0.1, ge=0, le=0.5, json_schema_extra=BASIC)


class Lora(Block):
    """Low-rank adapters (Hu et al. 2021): the base is frozen, two low-rank matrices beside each layer are trained.

    `target_modules` names layers (the last part of their name) in place of one of the usual sets.
    """

    rank: int = Field(default=16, ge=1, le=1024, json_schema_extra=BASIC)
    alpha: int = Field(default=32, ge=1, le=4096)
    dropout: float = Field(default=0, ge=0, le=0.9)
    targets: Literal["all-linear", "attention", "mlp"] = "all-linear"
    target_modules: list[str] = Field(default_factory=list, max_length=64)


class LoraPlus(Block):
    """LoRA+ (Hayou et al. 2024): the second matrix, which is initialized to zero, learns `ratio` times as fast."""

    ratio: float = Field(default=16, ge=1, le=1000)


class Freeze(Block):
    """Part of the model is trained without adapters, the rest is frozen. Trained are the last `layers` layers, the
    embeddings, the head, and every weight whose name matches `pattern` (a regular expression)."""

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
    """The settings of the optimizer. Without `learning_rate` the method's own is used (see `finetune/methods.py`).

    `neftune` is the strength of the noise on the embeddings (Jain et al. 2023); `early_stopping` ends a stage after
    that many evaluations without improvement; `keep_best` restores the best checkpoint at the end of a stage.
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
    """The device and the precision of a run."""

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
    """What a run logs. Intervals are in steps; an interval that is not set is a tenth of the run."""

    log_every: int = Field(default=1, ge=1, le=100_000)
    evaluate_every: int | None = Field(default=None, ge=1, le=100_000_000)
    checkpoint_every: int | None = Field(default=None, ge=1, le=100_000_000)
    samples: list[str] = Field(default_factory=list, max_length=8)
    sample_tokens: int = Field(default=48, ge=1, le=1024)


class Sft(Block):
    """Which tokens of a conversation carry loss: each answer, the last answer alone, or every token."""

    learn: Literal["answers", "last-answer", "everything"] = "answers"


class Pretrain(Block):
    """Plain text, all of it learned. With packing, short documents share a row and do not attend to one another."""

    packing: bool = True


class Dpo(Block):
    """Direct preference optimization (Rafailov et al. 2023), or IPO (Azar et al. 2023). `beta` is the strength of the
    penalty for moving away from the model that the stage starts from."""

    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    beta: float = Field(default=0.1, gt=0, le=100)
    label_smoothing: float = Field(default=0, ge=0, le=0.49)


class Stage(Block):
    """One objective on its data mix. The settings in its `optim` override those of the run; the block named after the
    objective holds the objective's settings."""

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
