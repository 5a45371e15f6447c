"""Training with checkpoints that any number of processes can resume from, written completely or not at all."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from core.errors import UserError
from core.files import write_file
from core.words import say
from finetune.config.device import choose_device, memory_gb
from finetune.config.run_config import RunConfig
from finetune.kernels.optimizer import MasterAdamW, groups_of
from finetune.kernels.sharding import is_sharded, shard, whole
from finetune.methods import METHODS
from finetune.objectives import OBJECTIVES, Objective
from finetune.runs.checkpoint_config import keep_config
from finetune.runs.log import Journal
from finetune.training.batches import LengthGrouped, SharedBatches, collate, in_order
from finetune.training.callbacks import WatchCallback, interval
from finetune.training.checkpoints import (
    OPTIMIZER,
    SCHEDULER,
    StageMark,
    let_appear,
    read_state,
    restore_masters,
    step_of,
    whole_checkpoints,
)
from finetune.training.distributed import ALONE, PATIENCE, Team
from finetune.training.loss_head import AnswerLoss
from finetune.training.reference_model import save_reference
from finetune.training.result import learned_weights, write_weights
from finetune.training.sampling import Prompt, write_sample
from finetune.training.stages import StageData
from finetune.training.throughput import Clock

SCHEDULES = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant_with_warmup",
    "inverse-sqrt": "inverse_sqrt",
    "warmup-stable-decay": "warmup_stable_decay",
}
DECAY = 0.2
"""The share of the last steps in which warmup-stable-decay lowers the learning rate (Hu et al. 2024: 0.1 or more)."""


class RunTrainer(Trainer):
    """Trains one stage of a run: its batches, its loss, its optimizer; evaluates the held-out rows and writes an event
    for every step; saves checkpoints and resumes from them.

    `stop` returns whether a stop was requested; `stored` is the dtype of the base's files. `references` are the
    log-probabilities of a preference stage's rows: those to train on and those held out.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        config: RunConfig,
        data: StageData,
        journal: Journal,
        stop: Callable[[], bool],
        stored: torch.dtype,
        team: Team = ALONE,
        references: list[Tensor] | None = None,
    ) -> None:
        self.team, self.data = team, data
        self.optim = config.optim_of(data.stage)
        self.config, self.journal, self.stop, self.stored = config, journal, stop, stored
        self.network, self.tokenizer = model, tokenizer
        self.references = references
        self.objective: Objective = OBJECTIVES[data.stage.objective]
        self.answer_loss = AnswerLoss(model, self.objective, data.stage.settings)
        self.sharded = config.compute.sharding == "fsdp" and team.size > 1
        if self.sharded and not is_sharded(model):
            shard(model, team.size, choose_device(config).type)
        self.clock = Clock()
        self.checkpoints = journal.run.checkpoints
        self._part: Path | None = None
        self._numbers: list[int] = []
        self._figures: dict[str, float] = {}
        self._eval_loss: float | None = None
        self._evaluated: int | None = None
        self.watch = WatchCallback(self)
        self.stopping = False
        super().__init__(
            model=model,
            args=self._arguments(),
            data_collator=collate,
            train_dataset=data.rows,  # type: ignore[arg-type]
            callbacks=[self.watch],
        )
        self.model_accepts_loss_kwargs = True
        # Gradients are averaged here, in float32 and once a step, so nothing wraps the model.
        self.is_distributed_loading_by_transformers = True

    @property
    def steps(self) -> int:
        """The steps of this stage."""
        return self.data.steps

    @property
    def step(self) -> int:
        """The step of the run."""
        return self.data.first_step + self.state.global_step

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
        order = LengthGrouped(self.data.rows.lengths, self.optim.batch_size, self.config.seed)
        mine = SharedBatches(order, self.team.rank, self.team.size)
        joined = partial(collate, reference=self.references[0] if self.references else None)
        return DataLoader(self.data.rows, batch_sampler=mine, collate_fn=joined)  # type: ignore[arg-type]

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """Return a step's batches and the number of items that its loss is a mean of, over all processes."""
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
        """Do nothing: every process starts from the same seed, and `_clip_grad_norm` averages the gradients."""

    @contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        """Defer nothing: sharded gradients are averaged after each batch and added up in the masters."""
        yield

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            decaying = self.get_decay_parameter_names(self.network)
            method = METHODS[self.config.method]
            groups = groups_of(
                self.network, decaying, self.optim.weight_decay, lambda name: method.lr_multiplier(name, self.config)
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
        """Return the mean loss of the whole accumulated batch, over all processes (which average their gradients)."""
        loss = self.answer_loss(model, inputs)
        for name, figure in loss.figures.items():
            self._figures[name] = self._figures.get(name, 0.0) + figure.item() / num_items_in_batch
        return loss.total * self.team.size / num_items_in_batch

    def floating_point_ops(self, inputs: Any) -> int:
        return 0

    def _clip_grad_norm(self, model: Any) -> Tensor:
        """Average the masters' gradients and clip them. Raises UserError where they are not finite."""
        if self.team.size > 1 and not self.sharded:
            self.team.average(self.masters.gradients())
        norm = whole(torch.nn.utils.clip_grad_norm_(self.masters.masters, self.args.max_grad_norm))
        self._demand_number(norm.item(), self.step + 1)
        return norm

    def _demand_number(self, value: float, step: int) -> None:
        """Raise UserError where a value is not finite, with the rows that it was computed on and the last good
        checkpoint."""
        if not math.isfinite(value):
            rows = ", ".join(map(str, sorted(self._numbers)[:16])) or "-"
            last = self.last_good()
            kept = say("run.nan_kept", step=last, run=self.journal.run.id) if last else say("run.nan_nothing_kept")
            rate = self.optim.learning_rate
            raise UserError("run.nan", value=value, step=step, rate=rate, rows=rows, kept=kept)

    def last_good(self) -> int:
        """Return the step of the newest complete checkpoint; 0 where there is none."""
        found = whole_checkpoints(self.checkpoints)
        return step_of(found[-1]) if found else 0

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Measure the validation rows (mean loss) and write the samples, as events."""
        with self.clock.paused(), torch.no_grad():
            self.network.eval()
            if len(self.data.validation) and not self.stop_requested():
                self._measure()
            for prompt in self.data.prompts:
                self._sample(prompt)
            self.network.train()
        if not self.stop_requested():
            self._evaluated = self.state.global_step
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, {})
        return {}

    def _measure(self) -> None:
        reference = self.references[1] if self.references else None
        rows, sums = self.data.validation, {"loss": 0.0, "count": 0.0}
        self._numbers = []
        for indices in in_order(rows, self.optim.batch_size, self.team.rank, self.team.size):
            if self.stop_requested():
                return
            batch = collate([rows[index] for index in indices], reference)
            loss = self.answer_loss(self.network, {name: value.to(self.args.device) for name, value in batch.items()})
            found: dict[str, Any] = {"loss": loss.total, "count": self.objective.count(batch), **loss.figures}
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + float(value)
        sums = {name: self.team.sum(value) for name, value in sums.items()}
        count = sums.pop("count")
        self._demand_number(sums["loss"], self.step)
        means = {name: value / count for name, value in sums.items()}
        self._eval_loss = means.pop("loss")
        begin = {"begin": True} if self.data.index and not self.state.global_step else {}
        self.journal.write("eval", step=self.step, stage=self.data.index, eval_loss=self._eval_loss, **means, **begin)

    def take_eval_loss(self) -> float | None:
        """Return the loss of the evaluation that just ended, once."""
        loss, self._eval_loss = self._eval_loss, None
        return loss

    def say_early(self, best: int) -> None:
        """Write the event that the stage ends before its last step."""
        step, best = self.step, self.data.first_step + best
        self.journal.write("early", step=step, stage=self.data.index, best=best)

    def stop_requested(self) -> bool:
        """Return whether a stop was requested, the same answer in all processes."""
        return self.team.any(self.stop())

    def _sample(self, prompt: Prompt) -> None:
        """Write a sample in the leading process; the others wait at their next common call, or take part where weights
        are sharded."""
        if self.stop_requested() or not (self.team.leads or self.sharded):
            return
        length = self.config.watch.sample_tokens
        text = write_sample(self.network, self.tokenizer, prompt, length, self.stop)
        if self.team.leads:
            self.journal.write("sample", step=self.step, prompt=prompt.text, text=text)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write a training step's figures as an event."""
        if "loss" not in logs:
            return
        step, data = self.state.global_step, self.data
        rate, seconds_left = self.clock.lap(step, data.all_steps - data.first_step)
        figures = {name: self.team.sum(value) for name, value in self._figures.items()}
        self.journal.write(
            "train",
            step=self.step,
            steps=data.all_steps,
            stage=data.index,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            grad_norm=logs.get("grad_norm"),
            tokens_per_s=rate,
            tokens=self.state.num_input_tokens_seen,
            epoch=round(self.state.epoch or 0, 4),
            eta_s=seconds_left,
            memory_gb=self.memory(),
            **figures,
        )

    def memory(self) -> float:
        """Return the peak memory so far in GB: of the fullest GPU, or of all processes on a CPU."""
        used = memory_gb()
        return round(self.team.largest(used) if torch.cuda.is_available() else self.team.sum(used), 2)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._part or self.checkpoints)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write the checkpoint under a temporary name, then rename it; keep the last two and the best."""
        self._part = self.checkpoints / ".part"
        with self.clock.paused():
            self._clear(self._part)
            self.team.wait()
            try:
                super()._save_checkpoint(model, trial)
                self.team.wait()
                if self.team.leads:
                    self._mark(self._part / f"checkpoint-{self.state.global_step}")
                    let_appear(self._part, self.checkpoints, self.data.first_step, keep=self.best_step)
            finally:
                self._clear(self._part)
                self._part = None
        self.journal.write("checkpoint", step=self.step, stage=self.data.index)

    def _mark(self, folder: Path) -> None:
        """Write into a checkpoint its position in the run, its config, and the references of a preference stage."""
        step = self.state.global_step
        early = self.control.should_training_stop and not self.stopping
        missed = self.watch.due(step) and self._evaluated != step
        StageMark(self.data.index, early or step >= self.steps, self.best_step, missed).write(folder)
        keep_config(self.config, folder)
        if self.references:
            save_reference(folder, self.references)

    def catch_up(self, checkpoint: Path) -> bool:
        """Make the evaluation that a checkpoint had no time for, and save its consequences in the checkpoint. Returns
        whether the stage is over."""
        state = checkpoint / TRAINER_STATE_NAME
        self.state = TrainerState.load_from_json(str(state))
        self.restore(checkpoint)
        self.control.should_training_stop = False
        self.evaluate()
        over = self.control.should_training_stop or self.state.global_step >= self.steps
        if self.team.leads and not self.stopping:
            write_file(state, json.dumps(asdict(self.state), indent=2, sort_keys=True))
            StageMark(self.data.index, over, self.best_step).write(checkpoint)
        self.team.wait()
        return over

    @property
    def best_step(self) -> int | None:
        """The step of the run with the lowest validation loss of this stage, if its checkpoint is to be kept."""
        best = self.state.best_global_step
        return None if best is None or not self.optim.keep_best else self.data.first_step + best

    def _clear(self, folder: Path) -> None:
        if self.team.leads:
            shutil.rmtree(folder, ignore_errors=True)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write a checkpoint's weights; unlike the Trainer's own method, it pickles no arguments."""
        weights = learned_weights(self.network, self.masters, self.stored, keep=self.team.leads)
        if self.team.leads:
            write_weights(self.network, weights, Path(output_dir or self.checkpoints), self.stored)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Write the states as a single process would, so that any number of processes can resume from them."""
        state = whole(self.masters.state_dict(), keep=self.team.leads)
        if self.team.leads:
            torch.save(state, Path(output_dir) / OPTIMIZER)
            assert self.lr_scheduler is not None, "the Trainer made it"
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            self.restore(Path(checkpoint))
            assert self.lr_scheduler is not None, "the Trainer made it"
            self.lr_scheduler.load_state_dict(read_state(Path(checkpoint) / SCHEDULER))

    def restore(self, checkpoint: Path) -> None:
        """Load the weights and the optimizer's state of a checkpoint."""
        restore_masters(self.masters, checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Do nothing: `restore` loads the weights with the masters."""
