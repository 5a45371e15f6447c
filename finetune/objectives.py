"""What is minimized: a table of objectives, each a pure function of hidden states and labels."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor

Head = Callable[["Tensor"], "Tensor"]
Batch = Mapping[str, "Tensor"]
CHUNK = 512


@dataclass(frozen=True)
class Answers:
    """The N positions of a batch that carry loss: `hidden` [N, width] predict `targets` [N], `rows` [N] says in which
    row of the batch each stands, `head` goes from [n, width] to logits [n, vocabulary]."""

    hidden: "Tensor"
    targets: "Tensor"
    rows: "Tensor"
    head: Head


@dataclass(frozen=True)
class Loss:
    """A loss summed over `count` items (tokens or pairs), of which the loss is the mean; `figures` are sums over the
    same items."""

    total: "Tensor"
    figures: dict[str, "Tensor"] = field(default_factory=dict)


@dataclass(frozen=True)
class Objective:
    """One training objective. `kinds` are the kinds of rows that it takes; `pairs` says that a row is two answers to
    compare: its batch holds the chosen answers, then the rejected ones, and the reference's log-probabilities
    `reference` [2, B].

    `lr_scale` is what the method's learning rate is multiplied by where the config names none. `count` is the number of
    things in a batch that the loss is a mean of. `loss` takes the positions, the batch and the objective's settings.
    """

    key: str
    kinds: tuple[str, ...]
    loss: Callable[[Answers, Batch, Any], Loss]
    count: Callable[[Batch], int]
    lr_scale: float = 1.0
    pairs: bool = False


def next_token_loss(answers: Answers, batch: Batch, settings: "BaseModel") -> Loss:
    """Return the cross entropy of the next token, summed in float32.

    The logits exist for `CHUNK` positions at a time: memory does not grow with the vocabulary times the length.
    """
    from finetune.kernels.chunked_loss import chunked_sum

    return Loss(chunked_sum(_cross_entropy, answers.hidden, answers.targets, answers.head, CHUNK))


def _cross_entropy(logits: "Tensor", targets: "Tensor") -> "Tensor":
    import torch.nn.functional as functional

    return functional.cross_entropy(logits.float(), targets, reduction="sum")


def log_probs(answers: Answers, rows: int) -> tuple["Tensor", "Tensor"]:
    """Return the log-probability of each row's answer and its length in tokens: both [rows], float32."""
    from finetune.kernels.chunked_loss import chunked_log_probs

    token_log_probs = chunked_log_probs(answers.hidden, answers.targets, answers.head, CHUNK)
    sums = token_log_probs.new_zeros(rows).index_add(0, answers.rows, token_log_probs)
    lengths = token_log_probs.new_zeros(rows).index_add(0, answers.rows, token_log_probs.new_ones(len(token_log_probs)))
    return sums, lengths


def preference_loss(answers: Answers, batch: Batch, settings: Any) -> Loss:
    """Return the DPO loss (Rafailov et al. 2023, eq. 7; label smoothing as in "conservative DPO", Mitchell 2023) or the
    IPO loss (Azar et al. 2023, eq. 17, on log-probabilities per token, as in its authors' and TRL's implementations),
    summed over pairs.

    The rewards are beta times what the model gives an answer above the reference (Rafailov et al., section 5.1).
    """
    import torch.nn.functional as functional

    reference = batch["reference"]
    pairs = reference.shape[1]
    sums, lengths = log_probs(answers, 2 * pairs)
    gains = sums.view(2, pairs) - reference
    if settings.loss == "ipo":
        per_token = gains / lengths.view(2, pairs)
        losses = (per_token[0] - per_token[1] - 1 / (2 * settings.beta)) ** 2
    else:
        margin, smooth = settings.beta * (gains[0] - gains[1]), settings.label_smoothing
        losses = -functional.logsigmoid(margin) * (1 - smooth) - functional.logsigmoid(-margin) * smooth
    rewards = settings.beta * gains.detach()
    figures = {
        "reward_chosen": rewards[0].sum(),
        "reward_rejected": rewards[1].sum(),
        "preferred": (rewards[0] > rewards[1]).float().sum(),
    }
    return Loss(losses.sum(), figures)


def answer_positions(values: "Tensor", labels: "Tensor") -> tuple["Tensor", "Tensor", "Tensor"]:
    """Select the positions that carry loss. From `values` [B, T, ...] and `labels` [B, T] (-100 where nothing is
    learned), return the values [N, ...] that predict a label, those labels [N] and their rows [N]; position t predicts
    label t + 1."""
    targets = labels[:, 1:]
    learned = targets != -100
    return values[:, :-1][learned], targets[learned], learned.nonzero()[:, 0]


def _labels(batch: Batch) -> int:
    return int((batch["labels"][:, 1:] != -100).sum())


def _pairs(batch: Batch) -> int:
    return batch["reference"].shape[1]


OBJECTIVES: dict[str, Objective] = {
    objective.key: objective
    for objective in (
        Objective("sft", kinds=("chat", "text", "pair"), loss=next_token_loss, count=_labels),
        Objective("pretrain", kinds=("text",), loss=next_token_loss, count=_labels, lr_scale=0.5),
        Objective("dpo", kinds=("preference",), loss=preference_loss, count=_pairs, lr_scale=0.05, pairs=True),
    )
}


def fitting(kinds: Iterable[str]) -> list[str]:
    """Return the keys of the objectives that can learn from rows of all these kinds."""
    wanted = set(kinds)
    return [objective.key for objective in OBJECTIVES.values() if wanted <= set(objective.kinds)]
