"""The rows that a run is measured on: those it held out, and a general text that it did not train on."""

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError
from core.rows import KINDS as ROW_KINDS
from core.rows import Row
from core.words import say
from core.workspace import Owner, dataset_folder
from finetune.config.blocks import Sft
from finetune.config.run_config import RunConfig, Stage
from finetune.data.store import Dataset, open_dataset
from finetune.evaluation.measures import KINDS, PLAIN, RowKind
from finetune.runs.run import Run
from finetune.runs.split import count_rows, held_indices, split_rows
from inference.compare import zerogpu

USUAL_ROWS, MOST_ROWS = 200, 2000
NO_GENERAL = "none"
_SHIPPED = Path(__file__).parents[1] / "data" / "general.jsonl"


@dataclass(frozen=True)
class EvaluationRequest:
    """What to measure: at most `rows` rows of each set. `general` is a dataset's id, "none", or None for the text that
    is shipped with the program."""

    general: str | None = None
    rows: int = USUAL_ROWS


@dataclass(frozen=True)
class RowSet:
    """The rows of a set that are used, of `available` rows.

    Held-out rows belong to a `stage` of the run, `number` (from 1) where the run has several; for the general set
    `name` is the dataset's, None for the shipped text. `learn` says which part of a conversation carries loss, as in
    `encode_all`.
    """

    key: str
    kind: str
    measured_as: RowKind
    rows: list[Row]
    available: int
    name: str | None = None
    stage: Stage | None = None
    number: int | None = None

    @property
    def learn(self) -> str:
        settings = self.stage.settings if self.stage is not None else None
        return settings.learn if isinstance(settings, Sft) else "answers"


def check(run: Run, owner: Owner, request: EvaluationRequest) -> None:
    """Raise UserError for what can be refused without reading a row: the number of rows, a run that is not finished or
    holds no rows out, a general set that does not exist, is of another kind, or was trained on; and on ZeroGPU, where
    no model can stay loaded."""
    if not 1 <= request.rows <= MOST_ROWS:
        raise UserError("evaluate.rows", value=request.rows, most=MOST_ROWS)
    if zerogpu.ready():
        raise UserError("evaluate.zero_gpu")
    status = run.status()
    if status.status != "done" or not run.model.is_dir():
        raise UserError("evaluate.unfinished", value=run.id, status=say(f"run.status.{status.status}"))
    config = run.config()
    if not config.limits.validation:
        raise _nothing_held_out(run, config)
    if request.general not in (None, NO_GENERAL):
        _check_general(open_dataset(dataset_folder(owner, str(request.general))), config)


def _nothing_held_out(run: Run, config: RunConfig) -> UserError:
    return UserError("evaluate.no_held_out", value=run.id, share=config.limits.validation)


def _check_general(dataset: Dataset, config: RunConfig) -> None:
    if KINDS.get(dataset.kind) is not PLAIN:
        known = ", ".join(kind for kind, measured in KINDS.items() if measured is PLAIN)
        raise UserError("evaluate.general_kind", value=dataset.name, kind=dataset.kind, known=known)
    learned = {source.dataset for stage in config.stages for source in stage.data}
    if any(name and dataset.id.startswith(name) for name in learned):
        raise UserError("evaluate.general_learned", value=dataset.name)


def row_sets(run: Run, owner: Owner, request: EvaluationRequest) -> list[RowSet]:
    """Return the sets of rows to measure a run on: the rows that each stage held out, then the general set.

    Raises UserError as `check`, and where the run's data is gone.
    """
    check(run, owner, request)
    config = run.config()
    several = len(config.stages) > 1
    found = [
        _held_out(run, config, stage, number if several else None, request.rows)
        for number, stage in enumerate(config.stages, 1)
    ]
    held = [rows for rows in found if rows is not None]
    if not held:
        raise _nothing_held_out(run, config)
    return held if request.general == NO_GENERAL else [*held, _general(request, config.seed, owner)]


def _held_out(run: Run, config: RunConfig, stage: Stage, number: int | None, most: int) -> RowSet | None:
    """Return the rows that a stage held out; None where there are none."""
    try:
        count = len(held_indices(count_rows(run, config, stage), config))
        held = (row for _, row in split_rows(run, config, stage, held=True))
        rows = sample_rows(held, count, most, config.seed)
    except UserError as error:
        if error.code != "run.data_missing":
            raise
        raise UserError("evaluate.data_missing", value=error.facts["value"]) from None
    if not rows:
        return None
    kind = kind_of(rows[0])
    return RowSet("held_out", kind, KINDS[kind], rows, count, stage=stage, number=number)


def training_rows(run: Run, config: RunConfig, stage: Stage, most: int) -> tuple[list[Row], int]:
    """Return at most `most` rows that a stage learned from, in an order that depends on the seed, and how many it
    had."""
    count = count_rows(run, config, stage)
    count -= len(held_indices(count, config))
    rows = sample_rows((row for _, row in split_rows(run, config, stage, held=False)), count, most, config.seed)
    random.Random(config.seed).shuffle(rows)
    return rows, count


def _general(request: EvaluationRequest, seed: int, owner: Owner) -> RowSet:
    if request.general is None:
        rows = shipped_rows()
        return RowSet("general", "text", PLAIN, sample_rows(rows, len(rows), request.rows, seed), len(rows))
    dataset = open_dataset(dataset_folder(owner, request.general))
    count = dataset.report.rows_kept
    rows = sample_rows(dataset.iterate(), count, request.rows, seed)
    return RowSet("general", dataset.kind, PLAIN, rows, count, dataset.name)


def shipped_rows() -> list[Row]:
    """Return the general text that is shipped with the program: short paragraphs and questions with answers, most of
    them English, some Chinese."""
    lines = _SHIPPED.read_text(encoding="utf-8").splitlines()
    return [_shipped(json.loads(line)) for line in lines]


def _shipped(row: dict) -> Row:
    return ROW_KINDS["chat" if "messages" in row else "text"](**row)


def kind_of(row: Row) -> str:
    """Return the name of a row's kind."""
    return next(name for name, kind in ROW_KINDS.items() if type(row) is kind)


def sample_rows(rows: Iterable[Row], count: int, most: int, seed: int) -> list[Row]:
    """Return at most `most` of `count` rows, in their order, chosen by the seed. The other rows are not kept in
    memory."""
    wanted = set(random.Random(seed).sample(range(count), min(count, most)))
    return [row for index, row in enumerate(rows) if index in wanted]
