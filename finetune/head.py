"""The forward of training: hidden states at the positions that carry loss, and only those go through the head."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from finetune.objectives import Head, Objective, answer_positions


class AnswerLoss:
    """Computes an objective's summed loss of a batch with as few logits as the model allows.

    Where the model's head is one linear layer and nothing behind it, the model runs without its head, the hidden
    states at the label positions are gathered and the objective calls the head on those. Any other head (soft cap,
    scale) runs as the model has it, on every position. Which it is, is tried out on four tokens.
    """

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        self.objective = objective
        self.head: nn.Module | None = model.get_output_embeddings()  # type: ignore[operator]
        self.gathers = isinstance(self.head, nn.Linear) and _is_plain(model, self.head)

    def __call__(self, model: nn.Module, input_ids: Tensor, labels: Tensor) -> Tensor:
        """The loss summed over the labels [B, T] behind each row's first position, in float32."""
        if not self.gathers:
            return self._loss(_forward(model, input_ids), labels, _as_it_is)
        head = self.head
        assert head is not None

        def in_the_model(states: Tensor) -> Tensor:
            """In place of the head, while the model runs: that is when sharded weights are there as a whole."""
            del head.forward
            return states.new_ones((1, 1, 1), dtype=torch.float32) * self._loss(states, labels, head)

        with _in_place_of(head, in_the_model):
            return _forward(model, input_ids)[0, 0, 0]

    def _loss(self, states: Tensor, labels: Tensor, head: Head) -> Tensor:
        hidden, targets = answer_positions(states, labels)
        return self.objective.loss(hidden, targets, head)


def _forward(model: nn.Module, input_ids: Tensor) -> Tensor:
    return model(input_ids=input_ids, use_cache=False).logits


def _as_it_is(logits: Tensor) -> Tensor:
    return logits


@contextmanager
def _in_place_of(head: nn.Module, forward: Head) -> Iterator[None]:
    """Let a model's own (perhaps wrapped) forward call something else in the place of its head."""
    head.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        head.__dict__.pop("forward", None)


def _is_plain(model: Any, head: nn.Module) -> bool:
    """Whether the model's logits are its head applied to its hidden states, and nothing more."""
    training = model.training
    model.eval()
    with torch.no_grad():
        ids = torch.arange(4, device=next(model.parameters()).device)[None]
        own = _forward(model, ids).float()
        with _in_place_of(head, _as_it_is):
            hidden = _forward(model, ids)
        same = hidden.shape[-1] == head.in_features and torch.allclose(own, head(hidden).float(), atol=1e-4)
    model.train(training)
    return bool(same)
