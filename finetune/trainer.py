"""The one training path: a transformers.Trainer for CPU, GPU and several processes, that writes the run's events."""

import math
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from core.errors import UserError
from finetune.batches import LengthGrouped, SharedBatches, collate, in_order
from finetune.checkpoints import OPTIMIZER, SCHEDULER, let_appear, read_state, restore_masters
from finetune.clock import Clock
from finetune.config import RunConfig, Stage
from finetune.data.tokenise import Encoded
from finetune.device import choose_device
from finetune.head import AnswerLoss
from finetune.journal import Journal
from finetune.masters import MasterAdamW, groups_by_decay
from finetune.objectives import OBJECTIVES
from finetune.prepare import total_steps
from finetune.result import learned_weights, write_weights
from finetune.sampling import Prompt, write_sample
from finetune.sharding import shard, whole
from finetune.team import ALONE, PATIENCE, Team

SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


class RunTrainer(Trainer):
    """Trains one stage of a run. `stop` tells whether somebody asked to end; `stored` is the dtype of base files."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        config: RunConfig,
        stage: Stage,
        rows: tuple[list[Encoded], list[Encoded]],
        prompts: list[Prompt],
        journal: Journal,
        stop: Callable[[], bool],
        stored: torch.dtype,
        team: Team = ALONE,
    ) -> None:
        self.team = team
        self.optim = config.optim_of(stage)
        self.config, self.journal, self.stop, self.stored = config, journal, stop, stored
        self.network, self.tokenizer, self.prompts = model, tokenizer, prompts
        self.train_rows, self.validation = rows
        self.steps = total_steps(len(self.train_rows), config, stage)
        self.answer_loss = AnswerLoss(model, OBJECTIVES[stage.objective])
        self.sharded = config.compute.sharding == "fsdp" and team.size > 1
        if self.sharded:
            shard(model, team.size, choose_device(config).type)
        self.clock = Clock()
        self.checkpoints = journal.run.checkpoints
        self._place: Path | None = None
        super().__init__(
            model=model,
            args=self._arguments(),
            data_collator=collate,
            train_dataset=self.train_rows,
            callbacks=[_Watch(self)],
        )
        self.model_accepts_loss_kwargs = True
        # Gradients are averaged here, in float32 and once a step, so nothing wraps the model.
        self.is_distributed_loading_by_transformers = True

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
            warmup_steps=int(optim.warmup * self.steps),
            weight_decay=optim.weight_decay,
            max_grad_norm=optim.max_grad_norm,
            logging_steps=watch.log_every,
            logging_nan_inf_filter=False,
            save_strategy="steps",
            save_steps=watch.checkpoint_every or interval(self.steps),
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

    def get_train_dataloader(self) -> DataLoader:
        lengths = [len(row.input_ids) for row in self.train_rows]
        order = LengthGrouped(lengths, self.optim.batch_size, self.config.seed)
        mine = SharedBatches(order, self.team.rank, self.team.size)
        return DataLoader(self.train_rows, batch_sampler=mine, collate_fn=collate)  # type: ignore[arg-type]

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """A step's batches and the number of tokens to learn in them, over all processes."""
        batches, learned = super().get_batch_samples(epoch_iterator, num_batches, device)
        tokens = round(self.team.sum(float(sum(int(batch["tokens"]) for batch in batches))))
        self.state.num_input_tokens_seen += tokens
        self.clock.tokens += tokens
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
            groups = groups_by_decay(self.network, decaying, self.optim.weight_decay)
            self.optimizer = self.masters = MasterAdamW(groups, self.optim.learning_rate or 0.0)
        return self.optimizer

    def training_step(self, model: Any, inputs: dict[str, Tensor], num_items_in_batch: Any = None) -> Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.masters.collect()
        return loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """The loss per token of the whole accumulated batch, over all processes (which average their gradients)."""
        total = self.answer_loss(model, inputs["input_ids"], inputs["labels"])
        return total * self.team.size / num_items_in_batch

    def floating_point_ops(self, inputs: Any) -> int:
        return 0

    def _clip_grad_norm(self, model: Any) -> Tensor:
        """Average the masters' gradients and shorten them. Raises UserError where they are no numbers any more."""
        if self.team.size > 1 and not self.sharded:
            self.team.average(self.masters.gradients())
        norm = whole(torch.nn.utils.clip_grad_norm_(self.masters.masters, self.args.max_grad_norm))
        self._demand_number(norm.item(), self.state.global_step + 1)
        return norm

    def _demand_number(self, value: float, step: int) -> None:
        if not math.isfinite(value):
            raise UserError("run.nan", value=value, step=step, rate=self.optim.learning_rate)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Measure the validation rows (loss per token) and write the samples, as events."""
        with self.clock.paused(), torch.no_grad():
            self.network.eval()
            if self.validation and not self._stop_asked():
                self._measure()
            for prompt in self.prompts:
                self._sample(prompt)
            self.network.train()
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, {})
        return {}

    def _measure(self) -> None:
        total, count = 0.0, 0
        for batch in in_order(self.validation, self.optim.batch_size, self.team.rank, self.team.size):
            if self._stop_asked():
                return
            labels = batch["labels"].to(self.args.device)
            total += self.answer_loss(self.network, batch["input_ids"].to(self.args.device), labels).item()
            count += int((labels[:, 1:] != -100).sum())
        total, count = self.team.sum(total), round(self.team.sum(count))
        self._demand_number(total, self.state.global_step)
        self.journal.write("eval", step=self.state.global_step, eval_loss=total / count)

    def _stop_asked(self) -> bool:
        """Whether somebody asked to stop, the same answer in all processes."""
        return self.team.any(self.stop())

    def _sample(self, prompt: Prompt) -> None:
        """The leading process writes; the others wait at the next thing to do together, or help where it has a part."""
        if self._stop_asked() or not (self.team.leads or self.sharded):
            return
        length = self.config.watch.sample_tokens
        text = write_sample(self.network, self.tokenizer, prompt, length, self.stop)
        if self.team.leads:
            self.journal.write("sample", step=self.state.global_step, prompt=prompt.text, text=text)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write a training step's figures as an event."""
        if "loss" not in logs:
            return
        step = self.state.global_step
        rate, seconds_left = self.clock.lap(step, self.steps)
        self.journal.write(
            "train",
            step=step,
            steps=self.steps,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            grad_norm=logs.get("grad_norm"),
            tokens_per_s=rate,
            tokens=self.state.num_input_tokens_seen,
            epoch=round(self.state.epoch or 0, 4),
            eta_s=seconds_left,
            memory_gb=self.memory(),
        )

    def memory(self) -> float:
        """The most memory used so far, in GB: of the fullest GPU, or of all processes on a CPU."""
        used = memory_gb()
        return round(self.team.largest(used) if torch.cuda.is_available() else self.team.sum(used), 2)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._place or self.checkpoints)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write the checkpoint under a temporary name, then let it appear; keep the last two."""
        self._place = self.checkpoints / ".part"
        with self.clock.paused():
            self._clear(self._place)
            self.team.wait()
            try:
                super()._save_checkpoint(model, trial)
                self.team.wait()
                if self.team.leads:
                    let_appear(self._place, self.checkpoints)
            finally:
                self._clear(self._place)
                self._place = None
        self.journal.write("checkpoint", step=self.state.global_step)

    def _clear(self, place: Path) -> None:
        if self.team.leads:
            shutil.rmtree(place, ignore_errors=True)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """A checkpoint's weights; unlike the Trainer's own it pickles no arguments."""
        weights = learned_weights(self.network, self.masters, self.stored, keep=self.team.leads)
        if self.team.leads:
            write_weights(self.network, weights, Path(output_dir or self.checkpoints), self.stored)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """As one process alone would write them, so that any number of processes can go on from there."""
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
        """Take over what a checkpoint learned."""
        restore_masters(self.masters, checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Nothing: the masters bring what was learned."""


class _Watch(TrainerCallback):
    """Decides after each step what comes next: an evaluation at its interval and at the end, an end when asked."""

    def __init__(self, trainer: RunTrainer) -> None:
        self.trainer = trainer
        self.every = trainer.config.watch.evaluate_every or interval(trainer.steps)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.team.rank and state.global_step == 0:
            torch.manual_seed(args.seed + self.trainer.team.rank)
        if state.global_step == 0:
            self.trainer.evaluate()
        self.trainer.clock.start(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.every == 0 or state.global_step >= state.max_steps:
            control.should_evaluate = True
        self._end_if_asked(control)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step:
            self._end_if_asked(control)

    def _end_if_asked(self, control: Any) -> None:
        if self.trainer._stop_asked():
            control.should_evaluate = False
            control.should_save = control.should_training_stop = True


def interval(steps: int) -> int:
    """Steps between evaluations, or checkpoints, where the config names none: a tenth of the run, five at least."""
    return max(5, math.ceil(steps / 10))


def memory_gb() -> float:
    """The most memory used so far: of the GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)
