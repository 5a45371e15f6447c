"""The forward pass of training: only hidden states at positions that carry loss go through the head."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from finetune.objectives import Answers, Batch, Head, Loss, Objective, answer_positions


class AnswerLoss:
    """Computes an objective's summed loss of a batch with as few logits as the model allows.

    Where the logits are one linear layer of the hidden states and nothing more, the model runs without its head, the
    hidden states at the label positions are gathered, and the objective calls the head on those. Any other head (soft
    cap, scale) runs unchanged on every position. A trial on four tokens decides which applies.
    """

    def __init__(self, model: nn.Module, objective: Objective, settings: Any = None) -> None:
        self.objective, self.settings = objective, settings
        self.head: nn.Module | None = model.get_output_embeddings()  # type: ignore[operator]
        self.gathers = isinstance(self.head, nn.Linear) and _is_plain(model, self.head)

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss over the labels [B, T] after each row's first position, in float32."""
        if not self.gathers:
            return self._loss(forward(model, batch), batch, _as_it_is)
        head = self.head
        assert head is not None
        found: list[Loss] = []

        def in_the_model(states: Tensor) -> Tensor:
            """Compute the loss in place of the head, while the model runs: only then are sharded weights gathered."""
            del head.forward
            found.append(self._loss(states, batch, head))
            return states.new_ones((1, 1, 1), dtype=torch.float32) * found[0].total

        with _in_place_of(head, in_the_model):
            total = forward(model, batch)[0, 0, 0]
        return replace(found[0], total=total)

    def _loss(self, states: Tensor, batch: Batch, head: Head) -> Loss:
        hidden, targets, rows = answer_positions(states, batch["labels"])
        return self.objective.loss(Answers(hidden, targets, rows, head), batch, self.settings)


def forward(model: nn.Module, batch: Batch) -> Tensor:
    """Return the model's output over `input_ids` [B, T]: right padding needs no mask in a causal model. Where rows are
    packed, `position_ids` start anew with each document, and transformers masks the documents from one another."""
    packed = {"position_ids": batch["position_ids"]} if "position_ids" in batch else {}
    return model(input_ids=batch["input_ids"], use_cache=False, **packed).logits


def _as_it_is(logits: Tensor) -> Tensor:
    return logits


@contextmanager
def _in_place_of(head: nn.Module, forward: Head) -> Iterator[None]:
    """Replace a model's head by another function, inside the model's own (perhaps wrapped) forward."""
    head.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        head.__dict__.pop("forward", None)


def _is_plain(model: Any, head: nn.Module) -> bool:
    """Return whether the model's logits are its head applied to its hidden states, and nothing more: no cap, no
    scale."""
    training = model.training
    model.eval()
    given: list[Tensor] = []

    def keep(states: Tensor) -> Tensor:
        given.append(states)
        return states

    with torch.no_grad():
        ids = torch.arange(4, device=next(model.parameters()).device)[None]
        own = forward(model, {"input_ids": ids}).float()
        with _in_place_of(head, keep):
            passed = forward(model, {"input_ids": ids})
        [states] = given
        untouched = passed.shape == states.shape and torch.equal(passed, states)
        same = untouched and torch.allclose(own, head(states).float(), atol=1e-4)
    model.train(training)
    return bool(same)
