"""A loss over many positions whose logits never exist all at once: each chunk is finished, gradients included.

The weight of a position's loss may be known only later (as in preference learning, where it depends on all positions
of both answers): `chunked_log_probs` keeps each position's gradient, [N, width], in place of its logits.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Head = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


def chunked_sum(loss: Loss, hidden: Tensor, targets: Tensor, head: Head, size: int) -> Tensor:
    """Return `loss(head(hidden), targets)` summed over chunks of `size` positions: `hidden` [N, width], `targets` [N].

    The gradients of a chunk are computed while its logits exist (as in Liger's fused loss, Hsu et al. 2024), so the
    head is not computed again in backward. The result can be differentiated once.
    """
    weights = [weight for weight in head.parameters() if weight.requires_grad] if isinstance(head, nn.Module) else []
    return _ChunkedSum.apply(loss, targets, head, size, hidden, *weights)


class _ChunkedSum(torch.autograd.Function):
    # L = sum_c loss(head(h_c), t_c) over chunks c, so dL/dh_c is that of its own chunk and dL/dW = sum_c dL_c/dW for a
    # weight W of the head. Both are taken in forward; backward multiplies them by the gradient g of L: dh = g dL/dh.
    @staticmethod
    def forward(
        ctx: Any, loss: Loss, targets: Tensor, head: Head, size: int, hidden: Tensor, *weights: Tensor
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grads = [torch.zeros_like(tensor) for tensor in (hidden, *weights)] if wanted else []
        for start in range(0, len(targets), size):
            part = slice(start, start + size)
            with torch.set_grad_enabled(wanted):
                states = hidden[part].detach().requires_grad_(wanted)
                value = loss(head(states), targets[part])
            total += value.detach()
            if wanted:
                grad, *weight_grads = torch.autograd.grad(value, (states, *weights))
                grads[0][part] = grad
                for mine, more in zip(grads[1:], weight_grads, strict=True):
                    mine += more
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        scale = gradients[0]
        return None, None, None, None, *(grad * scale.to(grad.dtype) for grad in ctx.saved_tensors)


def chunked_log_probs(hidden: Tensor, targets: Tensor, head: Head, size: int) -> Tensor:
    """Return the log-probability [N] of each target in float32: `hidden` [N, width], `targets` [N], chunks of `size`.

    Where the head is trained, too, its logits are computed again in backward, a chunk at a time.
    """
    weights = [weight for weight in head.parameters() if weight.requires_grad] if isinstance(head, nn.Module) else []
    return _ChunkedLogProbs.apply(targets, head, size, hidden, *weights)


class _ChunkedLogProbs(torch.autograd.Function):
    # l_i = z_i[t_i] - log sum_v exp(z_i[v]) with z_i = head(h_i) depends on no other position: dh_i = g_i dl_i/dh_i, of
    # which forward keeps dl_i/dh_i. dW = sum_i g_i dl_i/dW needs g, so a learning head is computed again in backward.
    @staticmethod
    def forward(ctx: Any, targets: Tensor, head: Head, size: int, hidden: Tensor, *weights: Tensor) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        found, grads = [], torch.zeros_like(hidden) if wanted else hidden[:0]
        for start in range(0, len(targets), size):
            part = slice(start, start + size)
            with torch.set_grad_enabled(wanted):
                states = hidden[part].detach().requires_grad_(wanted)
                value = _log_probs(head(states), targets[part])
                total = value.sum()
            found.append(value.detach())
            if wanted:
                grads[part] = torch.autograd.grad(total, states)[0]
        ctx.head, ctx.size, ctx.weights = head, size, weights
        ctx.save_for_backward(grads, targets, *([hidden] if weights else []))
        return torch.cat(found) if found else hidden.new_zeros(0, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        scale = gradients[0]
        grads, targets, *kept = ctx.saved_tensors
        of_hidden = grads * scale[:, None].to(grads.dtype)
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
