"""Prepares the stages of a run: their rows as tokens, the number of steps of each, and its first step."""

import inspect
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from core.errors import UserError
from core.words import counted, say
from finetune.config.counts import held_out, total_steps
from finetune.config.run_config import RunConfig, Stage
from finetune.data.tokenizing.encode_stage import StageEncoder, Tally
from finetune.data.tokenizing.packing import positions
from finetune.data.tokenizing.token_rows import TokenRows, write
from finetune.runs.log import Journal
from finetune.runs.run import Run
from finetune.runs.split import count_rows, split_rows
from finetune.training.distributed import Team
from finetune.training.loss_head import forward
from finetune.training.sampling import Prompt, row_prompt, typed_prompt

StopRequested = Callable[[], bool]


@dataclass(frozen=True)
class StageData:
    """One stage of a run, ready for training: of the run's `all_steps`, `first_step` steps come before its `steps`."""

    index: int
    stage: Stage
    rows: TokenRows
    validation: TokenRows
    prompts: list[Prompt]
    tally: Tally
    first_step: int
    steps: int
    all_steps: int = 0


@contextmanager
def scratch(run: Run, team: Team) -> Iterator[Path]:
    """Yield a temporary folder that is deleted when the attempt ends; `Run.sweep` deletes one that was left behind."""
    folder = run.folder / f".tokens-{team.rank}.part"
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stage_data(
    run: Run,
    config: RunConfig,
    tokenizer: Any,
    model: Any,
    folder: Path,
    journal: Journal,
    stop_requested: StopRequested,
) -> list[StageData]:
    """Return all stages as tokens in `folder`; fewer where a stop was requested. Raises UserError where one has nothing
    to learn from."""
    separate = _shares_no_rows(config, model, journal)
    stages: list[StageData] = []
    for index, stage in enumerate(config.stages):
        sides = []
        for held in (False, True):
            encoder = StageEncoder(stage, tokenizer, config.limits.max_length, separate)
            tokenized = _with_progress(run, config, stage, held, journal, encoder, stop_requested)
            sides.append((write(folder / f"{index}-{'held' if held else 'rows'}.arrow", tokenized), encoder.tally))
            if stop_requested():
                return stages
        (rows, tally), (validation, _) = sides
        if not len(rows):
            count = counted("core.rows", tally.rows)
            raise UserError("run.no_labels", rows=count, length=config.limits.max_length)
        first = stages[-1].first_step + stages[-1].steps if stages else 0
        prompts = _prompts(run, config, stage, tokenizer)
        steps = total_steps(len(rows), config, stage)
        stages.append(StageData(index, stage, rows, validation, prompts, tally, first, steps))
    return [replace(data, all_steps=stages[-1].first_step + stages[-1].steps) for data in stages]


def _with_progress(
    run: Run,
    config: RunConfig,
    stage: Stage,
    held: bool,
    journal: Journal,
    encoder: StageEncoder,
    stop_requested: StopRequested,
) -> Iterator[Any]:
    """Yield a stage's rows as tokens, and write progress events."""
    rows = count_rows(run, config, stage)
    aside = held_out(rows, config)
    if rows - aside < 1:
        raise UserError("run.no_rows", rows=counted("core.rows", rows), held=aside)
    total = aside if held else rows - aside

    def tick(done: int) -> bool:
        journal.write("progress", phase="tokenising", rows=rows, done=done, total=total)
        return stop_requested()

    return encoder(split_rows(run, config, stage, held=held), tick) if total else iter(())


def _prompts(run: Run, config: RunConfig, stage: Stage, tokenizer: Any) -> list[Prompt]:
    """Return the prompts to answer during training: those of the config, or that of the first held-out row."""
    typed = [typed_prompt(text, tokenizer) for text in config.watch.samples]
    if typed:
        return typed
    held = next(split_rows(run, config, stage, held=True), None) or next(split_rows(run, config, stage, held=False))
    return [row_prompt(held[1], tokenizer)]


def _shares_no_rows(config: RunConfig, model: Any, journal: Journal) -> bool:
    """Return whether documents must not share a row, since in this model they would see each other; the log says so."""
    packs = any(
        stage.pretrain is None or stage.pretrain.packing for stage in config.stages if stage.objective == "pretrain"
    )
    if not packs or stays_apart(model):
        return False
    journal.say(say("run.not_packed"))
    return True


def _plain(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@torch.no_grad()
def stays_apart(model: Any) -> bool:
    """Return whether a packed document's logits are independent of its neighbor, by a trial on two short documents.

    They are not in models that keep a running state or look at neighboring tokens (Mamba, convolutions).
    """
    if "position_ids" not in inspect.signature(_plain(model).forward).parameters:
        return False
    training, device = model.training, next(model.parameters()).device
    model.eval()
    size, length = model.get_input_embeddings().num_embeddings, 12
    chance = torch.Generator().manual_seed(0)
    first, second, document = (torch.randint(size, (length,), generator=chance) for _ in range(3))
    position_ids = torch.from_numpy(positions((length, length), 2 * length))[None].to(device)
    rows = [torch.cat([neighbor, document])[None].to(device) for neighbor in (first, second)]
    seen = [forward(model, {"input_ids": row, "position_ids": position_ids})[0, length:] for row in rows]
    model.train(training)
    return bool(torch.equal(*seen))
