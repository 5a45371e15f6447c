"""One attempt of a run, from its folder to `model/`: load, tokenize, train (or resume), save."""

import importlib.metadata
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, set_seed
from transformers.utils import logging as transformers_logging

from core.files import write_json
from core.runtime import no_planned_attention
from core.words import say
from finetune.config.device import choose_device, choose_dtype, device_name, four_bit, keep_trainable, why_dtype
from finetune.config.run_config import RunConfig
from finetune.data.tokenizing.tokenize import ensure_template
from finetune.kernels.attention import use_short_attention
from finetune.kernels.fused_layers import fuse
from finetune.methods import METHODS
from finetune.objectives import OBJECTIVES
from finetune.runs.log import Journal
from finetune.runs.run import Run
from finetune.training.checkpoints import OPTIMIZER, StageMark, processes_of, read_state, step_of, whole_checkpoints
from finetune.training.distributed import ALONE, Team
from finetune.training.reference_model import load_reference, reference_of
from finetune.training.result import learned_weights, public_name, save_result
from finetune.training.stages import StageData, scratch, stage_data
from finetune.training.trainer import RunTrainer

PACKAGES = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers")


def train(run: Run, base: Path, journal: Journal, stop: Callable[[], bool], team: Team = ALONE) -> bool:
    """Run a run to its end, from the last checkpoint where there is one. Returns whether it was stopped instead.

    Every process of a `team` does the same on its share of each batch; the leading process writes the files.
    """
    began = time.monotonic()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    config = run.config()
    stop_requested = partial(_stop_requested, stop, team)
    if team.leads:
        run.sweep()
    device = choose_device(config)
    dtype = choose_dtype(config, device)
    journal.write("progress", phase="loading", done=0, total=0)
    tokenizer = load_tokenizer(base)
    model, stored = load_model(run, config, base, device, dtype)
    if team.leads:
        _record(run, device, dtype)
    if stop_requested():
        return _stopped(journal, run.progress().step)
    with scratch(run, team) as folder:
        stages = stage_data(run, config, tokenizer, model, folder, journal, stop_requested)
        if stop_requested():
            return _stopped(journal, run.progress().step)
        attempt = Attempt(run, config, model, tokenizer, getattr(torch, stored), journal, stop, team)
        attempt.say_started(stages, device, str(dtype).removeprefix("torch."))
        if not attempt.go(stages):
            return _stopped(journal, attempt.step)
    attempt.save(time.monotonic() - began)
    return False


@dataclass
class Attempt:
    """One attempt of a run: its stages one after another, each starting from the weights of the previous one."""

    run: Run
    config: RunConfig
    model: Any
    tokenizer: Any
    stored: torch.dtype
    journal: Journal
    stop: Callable[[], bool]
    team: Team
    trainer: RunTrainer | None = None
    step: int = 0
    seconds: float = 0.0
    tokens: int = 0

    def say_started(self, stages: list[StageData], device: torch.device, dtype: str) -> None:
        """Write the event that says what runs where, from which step."""
        checkpoint, recorded = self._newest(), self.run.environment()
        self.step = step_of(checkpoint) if checkpoint else 0
        if recorded.get("stand_in"):
            self.journal.say(say("run.stand_in", asked=recorded["asked"], base=recorded["base"]))
        before = processes_of(checkpoint) if checkpoint else self.team.size
        if before != self.team.size:
            self.journal.say(say("run.processes_changed", before=before, now=self.team.size))
        why = why_dtype(self.config, device)
        self.journal.say(say(f"run.precision.{why}", dtype=dtype))
        parameters = list(self.model.parameters())
        self.journal.write(
            "started",
            step=self.step,
            steps=stages[-1].all_steps,
            base=recorded["base"],
            asked=recorded["asked"],
            stand_in=recorded["stand_in"],
            device=device.type,
            dtype=dtype,
            why_dtype=why,
            processes=self.team.size,
            processes_before=before,
            rows=sum(len(data.rows) for data in stages),
            validation_rows=sum(len(data.validation) for data in stages),
            trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
            total=sum(parameter.numel() for parameter in parameters),
            stages=[_stage_event(data) for data in stages],
        )

    def _newest(self) -> Path | None:
        return next(reversed(whole_checkpoints(self.run.checkpoints)), None)

    def go(self, stages: list[StageData]) -> bool:
        """Train the remaining stages. Returns whether training finished; otherwise a stop was requested."""
        checkpoint = self._newest()
        mark = StageMark.read(checkpoint) if checkpoint else None
        for data in stages[mark.stage if mark else 0 :]:
            here = mark is not None and mark.stage == data.index
            if not self._stage(data, checkpoint if here else None, mark if here else None):
                return False
        return True

    def _stage(self, data: StageData, checkpoint: Path | None, mark: StageMark | None) -> bool:
        """Train one stage, from its checkpoint or from the previous stage's weights. Returns whether it finished."""
        learned = self._learned()
        over = mark is not None and mark.over
        references = self._references(data, checkpoint)
        if references is not None and not references:
            return False
        self.trainer = trainer = RunTrainer(
            self.model,
            self.tokenizer,
            self.config,
            data,
            self.journal,
            self.stop,
            self.stored,
            self.team,
            references,
        )
        trainer.create_optimizer()
        if learned is not None:
            trainer.masters.take_over(learned)
        if checkpoint and mark and mark.missed:
            over = trainer.catch_up(checkpoint)
            if trainer.stopping:
                return False
        if over:
            assert checkpoint is not None
            self._take_result(StageMark.read(checkpoint).best or step_of(checkpoint))
            return True
        self.journal.write("stage", step=data.first_step, **_stage_event(data))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        self.step, self.seconds = trainer.step, self.seconds + trainer.clock.seconds
        self.tokens += trainer.clock.all_tokens
        if trainer.stopping:
            return False
        best = trainer.best_step
        if best is not None and best != trainer.step:
            self._take_result(best)
        self.journal.write("stage_done", step=self.step, stage=data.index, best=best)
        return True

    def _take_result(self, step: int) -> None:
        """Load a stage's result: the weights after a step of the run, from its checkpoint."""
        assert self.trainer is not None
        self.trainer.masters.take_over(read_state(self.run.checkpoints / f"checkpoint-{step}" / OPTIMIZER)["masters"])

    def _learned(self) -> list[torch.Tensor] | None:
        """Return the weights of the previous stage, unrounded; None before the first stage."""
        return [master.detach() for master in self.trainer.masters.masters] if self.trainer else None

    def _references(self, data: StageData, checkpoint: Path | None) -> list[torch.Tensor] | None:
        """Return the reference log-probabilities of a preference stage: from its checkpoint, else computed now. None
        for other stages, empty where a stop was requested."""
        if not OBJECTIVES[data.stage.objective].pairs:
            return None
        kept = load_reference(checkpoint) if checkpoint else None
        if kept:
            return kept
        references = []
        for rows in (data.rows, data.validation):
            reference = reference_of(
                self.model, rows, self.config.optim_of(data.stage).batch_size, self.team, self._tick
            )
            if reference is None:
                return []
            references.append(reference)
        return references

    def _tick(self, done: int, total: int) -> bool:
        self.journal.write("progress", phase="reference", done=done, total=total)
        return _stop_requested(self.stop, self.team)

    def save(self, seconds: float) -> None:
        """Write `model/` and the last event."""
        trainer = self.trainer
        assert trainer is not None
        self.journal.write("progress", phase="saving", done=0, total=0)
        weights = learned_weights(self.model, trainer.masters, self.stored, keep=self.team.leads)
        if self.team.leads:
            save_result(self.run, self.model, weights, self.tokenizer, self.stored)
        self.journal.write(
            "done",
            step=trainer.data.all_steps,
            steps=trainer.data.all_steps,
            seconds=round(seconds, 1),
            train_seconds=round(self.seconds, 1),
            tokens=self.tokens,
            tokens_per_s=round(self.tokens / self.seconds, 2) if self.seconds else 0.0,
            memory_gb=trainer.memory(),
        )


def _stage_event(data: StageData) -> dict[str, Any]:
    """Return the facts of a stage for its event."""
    return {
        "stage": data.index,
        "objective": data.stage.objective,
        "first_step": data.first_step,
        "stage_steps": data.steps,
        "rows": len(data.rows),
        "validation_rows": len(data.validation),
        "tally": data.tally.to_json(),
    }


def _stop_requested(stop: Callable[[], bool], team: Team) -> bool:
    """Return whether a stop was requested, the same answer in all processes."""
    return team.any(stop())


def load_tokenizer(base: Path) -> Any:
    """Return the base's tokenizer, with a chat template."""
    from inference.models import locate

    tokenizer = locate.load_tokenizer(base)
    ensure_template(tokenizer)
    return tokenizer


def load_model(run: Run, config: RunConfig, base: Path, device: torch.device, dtype: torch.dtype) -> tuple[Any, str]:
    """Return the model to train, and the name of the dtype of the base's files."""
    stored = AutoConfig.from_pretrained(base, local_files_only=True).dtype or torch.float32
    method = METHODS[config.method]
    how = {"quantization_config": four_bit(dtype), "device_map": {"": device}} if method.four_bit else {}
    model: Any = AutoModelForCausalLM.from_pretrained(
        base, dtype=dtype, use_safetensors=True, local_files_only=True, **how
    )
    no_planned_attention()
    if method.four_bit:
        keep_trainable(model)
    elif config.compute.sharding == "none":
        model.to(device)
    if device.type == "cpu":
        use_short_attention(model)
    set_seed(config.seed)
    model = method.apply(model, config)
    if config.compute.sharding == "none":
        fuse(model)
    if method.adapter:
        _name_base(model.peft_config["default"], str(run.environment()["base"]))
    return model, str(stored).removeprefix("torch.")


def _name_base(adapter: Any, base: str) -> None:
    """Set the base in an adapter's config to a name that others can resolve: a repository and revision, never a local
    path."""
    name, _, revision = public_name(base).partition("@")
    adapter.base_model_name_or_path, adapter.revision = name, revision or None


def _record(run: Run, device: torch.device, dtype: torch.dtype) -> None:
    """Add the device, the dtype and the versions of this attempt to env.json."""
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    write_json(
        run.folder / "env.json",
        {
            **run.environment(),
            "device": device.type,
            "device_name": device_name(device),
            "dtype": str(dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "versions": {"python": platform.python_version(), **versions},
        },
    )


def _stopped(journal: Journal, step: int) -> bool:
    journal.write("stopped", step=step)
    return True
