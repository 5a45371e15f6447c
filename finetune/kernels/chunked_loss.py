"""A loss over many positions whose logits are never all there: each chunk is finished, gradients included, at once.

What each position's loss is weighted with may be known only later (as in preference learning, where it depends on all
positions of both answers): `chunked_log_probs` keeps each position's slope, [N, width], in place of its logits.
"""

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


def chunked_log_probs(hidden: Tensor, targets: Tensor, head: Head, size: int) -> Tensor:
    """The log-probability [N] of each target in float32: `hidden` [N, width], `targets` [N], chunks of `size`.

    Where the head learns, too, its logits are computed again in backward, a chunk at a time.
    """
    weights = [weight for weight in head.parameters() if weight.requires_grad] if isinstance(head, nn.Module) else []
    return _ChunkedLogProbs.apply(targets, head, size, hidden, *weights)


class _ChunkedLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, targets: Tensor, head: Head, size: int, hidden: Tensor, *weights: Tensor) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        found, slopes = [], torch.zeros_like(hidden) if wanted else hidden[:0]
        for start in range(0, len(targets), size):
            part = slice(start, start + size)
            with torch.set_grad_enabled(wanted):
                states = hidden[part].detach().requires_grad_(wanted)
                value = _log_probs(head(states), targets[part])
                total = value.sum()
            found.append(value.detach())
            if wanted:
                slopes[part] = torch.autograd.grad(total, states)[0]
        ctx.head, ctx.size, ctx.weights = head, size, weights
        ctx.save_for_backward(slopes, targets, *([hidden] if weights else []))
        return torch.cat(found) if found else hidden.new_zeros(0, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        scale = gradients[0]
        slopes, targets, *kept = ctx.saved_tensors
        of_hidden = slopes * scale[:, None].to(slopes.dtype)
        if not ctx.weights:
            return None, None, None, of_hidden
        totals = [torch.zeros_like(weight) for weight in ctx.weights]
        for start in range(0, len(targets), ctx.size):
            part = slice(start, start + ctx.size)
            with torch.enable_grad():
                value = (_log_probs(ctx.head(kept[0][part].detach()), targets[part]) * scale[part]).sum()
            for total, more in zip(totals, torch.autograd.grad(value, ctx.weights), strict=True):
                total += more
        return None, None, None, of_hidden, *totals


def _log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    logits = logits.float()
    return logits.gather(-1, targets[:, None])[:, 0] - logits.logsumexp(-1)
