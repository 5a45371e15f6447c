"""One attempt of a run, from its folder to `model/`: load, tokenise, train (or go on), save."""

import importlib.metadata
import platform
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, set_seed
from transformers.utils import logging as transformers_logging

from core.errors import UserError
from core.files import write_json
from core.words import counted, say
from finetune.attention import use_short_attention
from finetune.checkpoints import processes_of, whole_checkpoints
from finetune.config import RunConfig
from finetune.data.tokenise import Encoded, encode_all, ensure_template
from finetune.device import choose_device, choose_dtype, device_name
from finetune.held_out import read_rows, split
from finetune.journal import Journal
from finetune.methods import METHODS
from finetune.result import learned_weights, public_name, save_result
from finetune.run import Run
from finetune.sampling import Prompt, row_prompt, typed_prompt
from finetune.team import ALONE, Team
from finetune.trainer import RunTrainer

TOKENISED_AT_A_TIME = 2000
PACKAGES = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers")


def train(run: Run, base: Path, journal: Journal, stop: Callable[[], bool], team: Team = ALONE) -> bool:
    """Bring a run to its end, from the last checkpoint where there is one. Returns whether it was stopped instead.

    Every process of a `team` does the same on its share of each batch; the leading one writes.
    """
    began = time.monotonic()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    config = run.config()
    asked = partial(_asked, stop, team)
    if team.leads:
        run.sweep()
    device = choose_device(config)
    dtype = choose_dtype(config, device)
    journal.write("progress", phase="loading", done=0, total=0)
    tokenizer = _tokenizer(base)
    model, stored = _model(run, config, base, device, dtype)
    if team.leads:
        _record(run, device, dtype)
    if asked():
        return _stopped(journal, run.progress().step)
    rows, prompts = _data(run, config, tokenizer, journal, asked)
    if asked():
        return _stopped(journal, run.progress().step)
    trainer = RunTrainer(
        model, tokenizer, config, config.stages[0], rows, prompts, journal, stop, getattr(torch, stored), team
    )
    if _fit(run, trainer, journal, str(device), str(dtype).removeprefix("torch.")):
        return _stopped(journal, trainer.state.global_step)
    journal.write("progress", phase="saving", done=0, total=0)
    weights = learned_weights(model, trainer.masters, trainer.stored, keep=team.leads)
    if team.leads:
        save_result(run, model, weights, tokenizer, trainer.stored)
    journal.write(
        "done",
        step=trainer.steps,
        steps=trainer.steps,
        seconds=round(time.monotonic() - began, 1),
        train_seconds=round(trainer.clock.seconds, 1),
        tokens=trainer.clock.all_tokens,
        tokens_per_s=trainer.clock.rate,
        memory_gb=trainer.memory(),
    )
    return False


def _asked(stop: Callable[[], bool], team: Team) -> bool:
    """Whether somebody asked to stop, the same answer in all processes."""
    return team.any(stop())


def _tokenizer(base: Path) -> Any:
    from inference.models import load_tokenizer

    tokenizer = load_tokenizer(base)
    ensure_template(tokenizer)
    return tokenizer


def _model(run: Run, config: RunConfig, base: Path, device: torch.device, dtype: torch.dtype) -> tuple[Any, str]:
    """The model to train, and the name of the dtype that the base's files hold."""
    stored = AutoConfig.from_pretrained(base, local_files_only=True).dtype or torch.float32
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, use_safetensors=True, local_files_only=True)
    if config.compute.sharding == "none":
        model.to(device)
    if device.type == "cpu":
        use_short_attention(model)
    set_seed(config.seed)
    model = METHODS[config.method].apply(model, config)
    if METHODS[config.method].adapter:
        _name_base(model.peft_config["default"], str(run.environment()["base"]))
    return model, str(stored).removeprefix("torch.")


def _name_base(adapter: Any, base: str) -> None:
    """Let an adapter's config name its base as others find it: a repository and revision, never a path of here."""
    name, _, revision = public_name(base).partition("@")
    adapter.base_model_name_or_path, adapter.revision = name, revision or None


def _record(run: Run, device: torch.device, dtype: torch.dtype) -> None:
    """Complete env.json with what the run really runs on."""
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


def _data(
    run: Run, config: RunConfig, tokenizer: Any, journal: Journal, stop: Callable[[], bool]
) -> tuple[tuple[list[Encoded], list[Encoded]], list[Prompt]]:
    """The rows to train on and to measure, as tokens, and the prompts of the samples."""
    rows = read_rows(run, config)
    training, held = split(rows, config)
    if not training:
        raise UserError("run.no_rows", rows=counted("core.rows", len(rows)), held=len(held))
    encoded: list[list[Encoded]] = [[], []]
    for part, kept in zip((training, held), encoded, strict=True):
        for start in range(0, len(part), TOKENISED_AT_A_TIME):
            journal.write("progress", phase="tokenising", rows=len(rows), done=start, total=len(part))
            if stop():
                return ([], []), []
            some = encode_all(part[start : start + TOKENISED_AT_A_TIME], tokenizer, config.limits.max_length)
            kept += [row for row in some if row.learns]
    if not encoded[0]:
        raise UserError("run.no_labels", rows=counted("core.rows", len(training)), length=config.limits.max_length)
    shown = (held or training)[0]
    prompts = [typed_prompt(text, tokenizer) for text in config.watch.samples] or [row_prompt(shown, tokenizer)]
    return (encoded[0], encoded[1]), prompts


def _fit(run: Run, trainer: RunTrainer, journal: Journal, device: str, dtype: str) -> bool:
    """Train from the last whole checkpoint to the end. Returns whether it was stopped before."""
    checkpoints = whole_checkpoints(run.checkpoints)
    step = int(checkpoints[-1].name.rpartition("-")[2]) if checkpoints else 0
    parameters = list(trainer.network.parameters())
    recorded = run.environment()
    if recorded.get("stand_in"):
        journal.say(say("run.stand_in", asked=recorded["asked"], base=recorded["base"]))
    before = processes_of(checkpoints[-1]) if checkpoints else trainer.team.size
    if before != trainer.team.size:
        journal.say(say("run.processes_changed", before=before, now=trainer.team.size))
    journal.write(
        "started",
        step=step,
        steps=trainer.steps,
        base=recorded["base"],
        asked=recorded["asked"],
        stand_in=recorded["stand_in"],
        device=device,
        dtype=dtype,
        processes=trainer.team.size,
        processes_before=before,
        rows=len(trainer.train_rows),
        validation_rows=len(trainer.validation),
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        total=sum(parameter.numel() for parameter in parameters),
        gathers=trainer.answer_loss.gathers,
    )
    if step >= trainer.steps:
        trainer.create_optimizer()
        trainer.restore(checkpoints[-1])
        return False
    trainer.train(resume_from_checkpoint=str(checkpoints[-1]) if checkpoints else None)
    return trainer.state.global_step < trainer.steps


def _stopped(journal: Journal, step: int) -> bool:
    journal.write("stopped", step=step)
    return True
