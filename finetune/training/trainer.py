"""Training with checkpoints that any number of processes can go on from, written whole or not at all."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from core.files import write_file
from finetune.kernels.sharding import whole
from finetune.runs.checkpoint_config import keep_told
from finetune.training.checkpoints import OPTIMIZER, SCHEDULER, StageMark, let_appear, read_state, restore_masters
from finetune.training.measuring import MeasuringTrainer
from finetune.training.reference_model import save_reference
from finetune.training.result import learned_weights, write_weights


class RunTrainer(MeasuringTrainer):
    """Keeps what one stage of a run learned, and goes on from it."""

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._place or self.checkpoints)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write the checkpoint under a temporary name, then let it appear; keep the last two and the best."""
        self._place = self.checkpoints / ".part"
        with self.clock.paused():
            self._clear(self._place)
            self.team.wait()
            try:
                super()._save_checkpoint(model, trial)
                self.team.wait()
                if self.team.leads:
                    self._mark(self._place / f"checkpoint-{self.state.global_step}")
                    let_appear(self._place, self.checkpoints, self.part.first_step, keep=self.best_step)
            finally:
                self._clear(self._place)
                self._place = None
        self.journal.write("checkpoint", step=self.step, stage=self.part.index)

    def _mark(self, folder: Path) -> None:
        """Say in a checkpoint where in the run it stands, its config, and what a preference stage compares with."""
        step = self.state.global_step
        early = self.control.should_training_stop and not self.stopping
        missed = self.watch.due(step) and self._evaluated != step
        StageMark(self.part.index, early or step >= self.steps, self.best_step, missed).write(folder)
        keep_told(self.config, folder)
        if self.references:
            save_reference(folder, self.references)

    def catch_up(self, checkpoint: Path) -> bool:
        """Make the evaluation that a checkpoint had no time for, and write into it what follows from that. Returns
        whether the stage is over with it."""
        state = checkpoint / TRAINER_STATE_NAME
        self.state = TrainerState.load_from_json(str(state))
        self.restore(checkpoint)
        self.control.should_training_stop = False
        self.evaluate()
        over = self.control.should_training_stop or self.state.global_step >= self.steps
        if self.team.leads and not self.stopping:
            write_file(state, json.dumps(asdict(self.state), indent=2, sort_keys=True))
            StageMark(self.part.index, over, self.best_step).write(checkpoint)
        self.team.wait()
        return over

    @property
    def best_step(self) -> int | None:
        """The step of the run with the lowest validation loss of this stage, where its checkpoint shall be kept."""
        best = self.state.best_global_step
        return None if best is None or not self.optim.keep_best else self.part.first_step + best

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
