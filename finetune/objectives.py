"""What is minimised: a table of objectives, each one pure function of hidden states and labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Head = Callable[["Tensor"], "Tensor"]
CHUNK = 512


@dataclass(frozen=True)
class Objective:
    """One thing to learn. `kinds` are the row kinds it takes.

    `loss(hidden, targets, head)` gives the summed loss of N positions: `hidden` [N, width], `targets` [N] token ids,
    `head` from [n, width] to logits [n, vocabulary].
    """

    key: str
    kinds: tuple[str, ...]
    loss: Callable[["Tensor", "Tensor", Head], "Tensor"]


def next_token_loss(hidden: "Tensor", targets: "Tensor", head: Head) -> "Tensor":
    """Cross entropy of the next token, summed in float32.

    The logits exist for `CHUNK` positions at a time: memory does not grow with the vocabulary times the length.
    """
    from finetune.chunks import chunked_sum

    return chunked_sum(_cross_entropy, hidden, targets, head, CHUNK)


def _cross_entropy(logits: "Tensor", targets: "Tensor") -> "Tensor":
    import torch.nn.functional as functional

    return functional.cross_entropy(logits.float(), targets, reduction="sum")


def answer_positions(values: "Tensor", labels: "Tensor") -> tuple["Tensor", "Tensor"]:
    """The positions that carry loss: from `values` [B, T, ...] and `labels` [B, T] (-100 where nothing is learned) to
    the values [N, ...] that predict a label and those labels [N]; position t predicts label t + 1."""
    targets = labels[:, 1:]
    learned = targets != -100
    return values[:, :-1][learned], targets[learned]


OBJECTIVES: dict[str, Objective] = {
    objective.key: objective for objective in (Objective("sft", kinds=("chat", "text", "pair"), loss=next_token_loss),)
}
