"""What is decided after each step of a stage: an evaluation, a checkpoint of the best, an early end."""

import math
from typing import Any, Protocol

import torch
from transformers import TrainerCallback

from finetune.config.blocks import Optim
from finetune.config.run_config import RunConfig
from finetune.training.distributed import Team
from finetune.training.throughput import Clock


class Watched(Protocol):
    """What is asked of the trainer of a stage here."""

    config: RunConfig
    optim: Optim
    team: Team
    clock: Clock
    stopping: bool

    @property
    def steps(self) -> int: ...

    def evaluate(self) -> object: ...

    def take_eval_loss(self) -> float | None: ...

    def say_early(self, best: int) -> None: ...

    def stop_requested(self) -> bool: ...


class Watch(TrainerCallback):
    """An evaluation at its interval and at the end, an end when asked or when nothing gets better any more."""

    def __init__(self, trainer: Watched) -> None:
        self.trainer = trainer
        self.every = trainer.config.watch.evaluate_every or interval(trainer.steps)

    def due(self, step: int) -> bool:
        """Whether an evaluation is due at a step of the stage."""
        return step % self.every == 0 or step >= self.trainer.steps

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.team.rank and state.global_step == 0:
            torch.manual_seed(args.seed + self.trainer.team.rank)
        if state.global_step == 0:
            self.trainer.evaluate()
        self.trainer.clock.start(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.due(state.global_step):
            control.should_evaluate = True
        self._end_if_requested(control)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._compare(state, control)
        if state.global_step:
            self._end_if_requested(control)

    def _compare(self, state: Any, control: Any) -> None:
        """Keep what is the best so far; end where nothing was better for as many evaluations as the config allows."""
        loss, optim = self.trainer.take_eval_loss(), self.trainer.optim
        if loss is None:
            return
        if state.best_metric is None or loss < state.best_metric:
            state.best_metric, state.best_global_step = loss, state.global_step
            control.should_save = control.should_save or bool(optim.keep_best and state.global_step)
            return
        waited = math.ceil((state.global_step - state.best_global_step) / self.every)
        if optim.early_stopping and waited >= optim.early_stopping and state.global_step < self.trainer.steps:
            control.should_save = control.should_training_stop = True
            self.trainer.say_early(state.best_global_step)

    def _end_if_requested(self, control: Any) -> None:
        if self.trainer.stop_requested():
            self.trainer.stopping = True
            control.should_evaluate = False
            control.should_save = control.should_training_stop = True


def interval(steps: int) -> int:
    """Steps between evaluations, or checkpoints, where the config names none: a tenth of the run, five at least."""
    return max(5, math.ceil(steps / 10))
