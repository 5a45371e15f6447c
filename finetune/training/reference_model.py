"""Reference log-probabilities for preference learning: those of the initial model, computed before the first step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from finetune.data.tokenizing.token_rows import TokenRows
from finetune.objectives import Answers, Batch, Loss, Objective, log_probs
from finetune.training.batches import collate, in_order
from finetune.training.distributed import Team
from finetune.training.loss_head import AnswerLoss

FILE = "reference.safetensors"


def _answers(answers: Answers, batch: Batch, settings: Any) -> Loss:
    sums, _ = log_probs(answers, len(batch["labels"]))
    return Loss(sums.sum(), {"log_probs": sums})


_READ = Objective("reference", kinds=(), loss=_answers, count=lambda batch: len(batch["labels"]))


@torch.no_grad()
def reference_of(
    model: Any, rows: TokenRows, batch_size: int, team: Team, tick: Callable[[int, int], bool]
) -> Tensor | None:
    """Return the log-probability [2, n] of each row's chosen and rejected answer, float32, on the CPU.

    `tick` is called with the rows done and in total before each batch; where it returns True the result is None. The
    processes of a team compute a share of each batch.
    """
    loss = AnswerLoss(model, _READ)
    found = torch.zeros(2, len(rows))
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        for done, (indices, batch) in enumerate(_batches(rows, batch_size, team)):
            if tick(min(done * batch_size, len(rows)), len(rows)):
                return None
            moved = {name: value.to(device) for name, value in batch.items()}
            sums = loss(model, moved).figures["log_probs"].cpu()
            if indices:
                found[:, indices] = sums.view(2, len(indices))
    finally:
        model.train(training)
    return team.sum_all(found)


def _batches(rows: TokenRows, batch_size: int, team: Team) -> Any:
    """Yield the row indices and the batch, longest rows first; a process without a row in a batch computes one of
    padding."""
    for mine in in_order(rows, batch_size, team.rank, team.size):
        yield mine, collate([rows[index] for index in mine])


def save_reference(folder: Path, references: list[Tensor]) -> None:
    """Save the references of the training rows and of the held-out rows with a checkpoint."""
    save_file(dict(zip(("rows", "validation"), references, strict=True)), folder / FILE)


def load_reference(folder: Path) -> list[Tensor] | None:
    """Return the references of a checkpoint; None where it has none."""
    if not (folder / FILE).is_file():
        return None
    read = load_file(folder / FILE)
    return [read["rows"], read["validation"]]
