"""The decisions after each step of a stage: evaluation, checkpoint of the best, early stopping."""

import math
from typing import Any, Protocol

import torch
from transformers import TrainerCallback

from finetune.config.blocks import Optim
from finetune.config.run_config import RunConfig
from finetune.training.distributed import Team
from finetune.training.throughput import Clock


class Watched(Protocol):
    """What `Watch` needs of the trainer of a stage."""

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


class WatchCallback(TrainerCallback):
    """Evaluates at intervals and at the end, and ends training on a stop request or when the loss no longer
    improves."""

    def __init__(self, trainer: Watched) -> None:
        self.trainer = trainer
        self.every = trainer.config.watch.evaluate_every or interval(trainer.steps)

    def due(self, step: int) -> bool:
        """Return whether an evaluation is due at a step of the stage."""
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
        """Record the best evaluation so far; end training after as many evaluations without improvement as the config
        allows."""
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
    """Return the steps between evaluations, or checkpoints, where the config sets none: a tenth of the run, at least
    five."""
    return max(5, math.ceil(steps / 10))
