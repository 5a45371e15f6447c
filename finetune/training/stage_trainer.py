"""The one training path: a transformers.Trainer for CPU, GPU and several processes, one for each stage of a run."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from core.errors import UserError
from core.words import say
from finetune.config.device import choose_device
from finetune.config.run_config import RunConfig
from finetune.kernels.optimizer import MasterAdamW, groups_of
from finetune.kernels.sharding import is_sharded, shard, whole
from finetune.methods import METHODS
from finetune.objectives import OBJECTIVES, Objective
from finetune.runs.log import Journal
from finetune.training.batches import LengthGrouped, SharedBatches, collate
from finetune.training.callbacks import Watch, interval
from finetune.training.checkpoints import step_of, whole_checkpoints
from finetune.training.distributed import ALONE, PATIENCE, Team
from finetune.training.loss_head import AnswerLoss
from finetune.training.stages import Part
from finetune.training.throughput import Clock

SCHEDULES = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant_with_warmup",
    "inverse-sqrt": "inverse_sqrt",
    "warmup-stable-decay": "warmup_stable_decay",
}
DECAY = 0.2
"""The last part of the steps, in which warmup-stable-decay lowers the rate (Hu et al. 2024: a tenth or more)."""


class StageTrainer(Trainer):
    """Trains one stage of a run: its batches, its loss, its optimizer.

    `stop` tells whether somebody asked to end; `stored` is the dtype of the base's files. `references` are the
    log-probabilities of a preference stage's rows, of those to train on and those held out.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        config: RunConfig,
        part: Part,
        journal: Journal,
        stop: Callable[[], bool],
        stored: torch.dtype,
        team: Team = ALONE,
        references: list[Tensor] | None = None,
    ) -> None:
        self.team, self.part = team, part
        self.optim = config.optim_of(part.stage)
        self.config, self.journal, self.stop, self.stored = config, journal, stop, stored
        self.network, self.tokenizer = model, tokenizer
        self.references = references
        self.objective: Objective = OBJECTIVES[part.stage.objective]
        self.answer_loss = AnswerLoss(model, self.objective, part.stage.settings)
        self.sharded = config.compute.sharding == "fsdp" and team.size > 1
        if self.sharded and not is_sharded(model):
            shard(model, team.size, choose_device(config).type)
        self.clock = Clock()
        self.checkpoints = journal.run.checkpoints
        self._place: Path | None = None
        self._numbers: list[int] = []
        self._figures: dict[str, float] = {}
        self._eval_loss: float | None = None
        self._evaluated: int | None = None
        self.watch = Watch(self)  # type: ignore[arg-type]
        self.stopping = False
        super().__init__(
            model=model,
            args=self._arguments(),
            data_collator=collate,
            train_dataset=part.rows,  # type: ignore[arg-type]
            callbacks=[self.watch],
        )
        self.model_accepts_loss_kwargs = True
        # Gradients are averaged here, in float32 and once a step, so nothing wraps the model.
        self.is_distributed_loading_by_transformers = True

    @property
    def steps(self) -> int:
        """The steps of this stage."""
        return self.part.steps

    @property
    def step(self) -> int:
        """The step of the run."""
        return self.part.first_step + self.state.global_step

    def _arguments(self) -> TrainingArguments:
        config, optim, watch = self.config, self.optim, self.config.watch
        device = self.answer_loss.head.weight.device if self.answer_loss.head is not None else None
        return TrainingArguments(
            output_dir=str(self.checkpoints),
            per_device_train_batch_size=optim.batch_size,
            gradient_accumulation_steps=optim.gradient_accumulation,
            max_steps=self.steps,
            learning_rate=optim.learning_rate or 0.0,
            lr_scheduler_type=SCHEDULES[optim.schedule],
            lr_scheduler_kwargs=self._schedule(),
            warmup_steps=int(optim.warmup * self.steps),
            neftune_noise_alpha=optim.neftune,
            weight_decay=optim.weight_decay,
            max_grad_norm=optim.max_grad_norm,
            logging_steps=watch.log_every,
            logging_nan_inf_filter=False,
            save_strategy="steps",
            save_steps=min(watch.checkpoint_every or interval(self.steps), self.steps),
            activation_checkpointing=config.compute.recompute,
            activation_checkpointing_kwargs={"use_reentrant": False} if config.compute.recompute else None,
            seed=config.seed,
            data_seed=config.seed,
            use_cpu=device is None or device.type == "cpu",
            ddp_backend="gloo" if self.team.size > 1 and (device is None or device.type == "cpu") else None,
            ddp_timeout=int(PATIENCE.total_seconds()),
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            disable_tqdm=True,
            report_to="none",
        )

    def _schedule(self) -> dict[str, int] | None:
        if self.optim.schedule != "warmup-stable-decay":
            return None
        return {"num_decay_steps": max(1, int(DECAY * self.steps))}

    def get_train_dataloader(self) -> DataLoader:
        order = LengthGrouped(self.part.rows.lengths, self.optim.batch_size, self.config.seed)
        mine = SharedBatches(order, self.team.rank, self.team.size)
        joined = partial(collate, reference=self.references[0] if self.references else None)
        return DataLoader(self.part.rows, batch_sampler=mine, collate_fn=joined)  # type: ignore[arg-type]

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """A step's batches and the number of things that its loss is a mean of, over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        tokens = sum(int(batch["tokens"]) for batch in batches)
        tokens, learned = (
            round(self.team.sum(float(count))) for count in (tokens, sum(map(self.objective.count, batches)))
        )
        self.state.num_input_tokens_seen += tokens
        self.clock.tokens += tokens
        self._numbers = [number for batch in batches for number in batch["numbers"].tolist()]
        self._figures = {}
        return batches, learned

    def _sync_replicated_trainable_parameters(self, model: Any) -> None:
        """Nothing: every process starts from the same seed, and `_clip_grad_norm` averages the gradients."""

    @contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        """Nothing is deferred: sharded gradients are averaged after each batch and added up in the masters."""
        yield

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            decaying = self.get_decay_parameter_names(self.network)
            method = METHODS[self.config.method]
            groups = groups_of(
                self.network, decaying, self.optim.weight_decay, lambda name: method.faster(name, self.config)
            )
            self.optimizer = self.masters = MasterAdamW(groups, self.optim.learning_rate or 0.0)
        return self.optimizer

    def training_step(self, model: Any, inputs: dict[str, Tensor], num_items_in_batch: Any = None) -> Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.masters.collect()
        return loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """The mean loss of the whole accumulated batch, over all processes (which average their gradients)."""
        loss = self.answer_loss(model, inputs)
        for name, figure in loss.figures.items():
            self._figures[name] = self._figures.get(name, 0.0) + figure.item() / num_items_in_batch
        return loss.total * self.team.size / num_items_in_batch

    def floating_point_ops(self, inputs: Any) -> int:
        return 0

    def _clip_grad_norm(self, model: Any) -> Tensor:
        """Average the masters' gradients and shorten them. Raises UserError where they are no numbers any more."""
        if self.team.size > 1 and not self.sharded:
            self.team.average(self.masters.gradients())
        norm = whole(torch.nn.utils.clip_grad_norm_(self.masters.masters, self.args.max_grad_norm))
        self._demand_number(norm.item(), self.step + 1)
        return norm

    def _demand_number(self, value: float, step: int) -> None:
        """Raise UserError where a figure is none, with the rows it was computed on and what is still good."""
        if not math.isfinite(value):
            rows = ", ".join(map(str, sorted(self._numbers)[:16])) or "-"
            last = self.last_good()
            kept = say("run.nan_kept", step=last, run=self.journal.run.id) if last else say("run.nan_nothing_kept")
            rate = self.optim.learning_rate
            raise UserError("run.nan", value=value, step=step, rate=rate, rows=rows, kept=kept)

    def last_good(self) -> int:
        """The step of the newest whole checkpoint; 0 where there is none."""
        found = whole_checkpoints(self.checkpoints)
        return step_of(found[-1]) if found else 0
