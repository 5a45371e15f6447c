"""A loss over many positions whose logits are never all there: each chunk is finished, gradients included, at once."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Head = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


def chunked_sum(loss: Loss, hidden: Tensor, targets: Tensor, head: Head, size: int) -> Tensor:
    """`loss(head(hidden), targets)` summed over chunks of `size` positions: `hidden` [N, width], `targets` [N].

    The gradients of the chunk are taken while its logits are there (as Liger's fused loss does, Hsu et al. 2024), so
    the head is not computed again in backward. It can be differentiated once.
    """
    weights = [weight for weight in head.parameters() if weight.requires_grad] if isinstance(head, nn.Module) else []
    return _ChunkedSum.apply(loss, targets, head, size, hidden, *weights)


class _ChunkedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, loss: Loss, targets: Tensor, head: Head, size: int, hidden: Tensor, *weights: Tensor
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        slopes = [torch.zeros_like(tensor) for tensor in (hidden, *weights)] if wanted else []
        for start in range(0, len(targets), size):
            part = slice(start, start + size)
            with torch.set_grad_enabled(wanted):
                states = hidden[part].detach().requires_grad_(wanted)
                value = loss(head(states), targets[part])
            total += value.detach()
            if wanted:
                slope, *steep = torch.autograd.grad(value, (states, *weights))
                slopes[0][part] = slope
                for mine, more in zip(slopes[1:], steep, strict=True):
                    mine += more
        ctx.save_for_backward(*slopes)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        scale = gradients[0]
        return None, None, None, None, *(slope * scale.to(slope.dtype) for slope in ctx.saved_tensors)
