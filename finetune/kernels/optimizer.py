"""AdamW on float32 master weights: the model computes in bfloat16, the masters are kept and updated in float32.

Without masters an update smaller than a weight's last bit is rounded away (Micikevicius et al. 2018).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from finetune.kernels.sharding import like


@dataclass(frozen=True)
class ParameterGroup:
    """Weights with the same settings: their weight decay, and the factor on their learning rate."""

    parameters: list[nn.Parameter]
    weight_decay: float = 0.0
    lr_multiplier: float = 1.0


class MasterAdamW(torch.optim.AdamW):
    """AdamW (Loshchilov & Hutter 2019) on float32 copies (masters) of the model's weights; a weight that is float32 is
    its own master.

    Call `collect` after each backward, `step` once a batch.
    """

    def __init__(self, groups: Iterable[ParameterGroup], learning_rate: float) -> None:
        self.pairs: list[tuple[nn.Parameter, Tensor]] = []
        super().__init__(
            [
                {
                    "params": [self._master(parameter) for parameter in group.parameters],
                    "weight_decay": group.weight_decay,
                    "lr": learning_rate * group.lr_multiplier,
                }
                for group in groups
                if group.parameters
            ],
            lr=learning_rate,
            betas=(0.9, 0.999),
            eps=1e-8,
            fused=True,
        )

    def _master(self, parameter: nn.Parameter) -> Tensor:
        exact = parameter.dtype == torch.float32
        master = parameter if exact else parameter.detach().float().requires_grad_(True)
        self.pairs.append((parameter, master))
        return master

    @property
    def masters(self) -> list[Tensor]:
        return [master for _, master in self.pairs]

    def collect(self) -> None:
        """Add the gradients of the model's weights to those of the masters, in float32, and free them."""
        for parameter, master in self.pairs:
            if parameter is master or parameter.grad is None:
                continue
            gradient = parameter.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            parameter.grad = None

    def gradients(self) -> list[Tensor]:
        """Return the gradient of each master; zeros where this process had none."""
        for master in self.masters:
            if master.grad is None:
                master.grad = torch.zeros_like(master)
        return [master.grad for master in self.masters if master.grad is not None]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the masters, then round them into the model."""
        result = super().step(closure)
        self._round()
        for master in self.masters:
            master.grad = None
        return result

    def _round(self) -> None:
        for parameter, master in self.pairs:
            if parameter is not master:
                parameter.data.copy_(master.data)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "masters": [master.detach() for master in self.masters]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of the optimizer and the masters, and round the masters into the model.

        The state holds whole tensors; where the weights are sharded, each process takes its part.
        """
        state = {index: _parts(values, self.masters[index]) for index, values in state_dict["state"].items()}
        super().load_state_dict({"state": state, "param_groups": state_dict["param_groups"]})
        self.take_over(state_dict["masters"])

    @torch.no_grad()
    def take_over(self, masters: Iterable[Tensor]) -> None:
        """Continue from weights learned before, in an earlier stage or at a checkpoint, and round them into the
        model."""
        for mine, theirs in zip(self.masters, masters, strict=True):
            mine.data.copy_(like(theirs, mine))
        self._round()


def _parts(values: dict[str, Any], master: Tensor) -> dict[str, Any]:
    return {name: like(value, master) for name, value in values.items()}


def groups_of(
    model: nn.Module,
    decaying: Iterable[str],
    weight_decay: float,
    lr_multiplier: Callable[[str], float] = lambda name: 1.0,
) -> list[ParameterGroup]:
    """Return the trainable weights in groups: those with the lowest learning rate first, and of the same rate those
    with weight decay first."""
    names = set(decaying)
    found: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found.setdefault((lr_multiplier(name), name not in names), []).append(parameter)
    return [
        ParameterGroup(part, 0.0 if still else weight_decay, lr_multiplier)
        for (lr_multiplier, still), part in sorted(found.items(), key=_key)
    ]


def _key(item: tuple[tuple[float, bool], list[nn.Parameter]]) -> tuple[float, bool]:
    return item[0]
