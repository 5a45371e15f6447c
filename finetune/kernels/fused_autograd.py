"""The autograd functions of `fused_layers`, with backward written out, so that they keep little memory."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

Shape = tuple[tuple[int, bool, float], ...]


class RMSNorm(torch.autograd.Function):
    """RMSNorm (Zhang & Sennrich 2019), with the mean of squares in float32."""

    # y = w * u with u = s x and s = (mean(x^2) + epsilon)^(-1/2); for the gradient g of y:
    # dw = sum over rows of g * u, and dx = s (v - u (v . u) / n) with v = g * w and n the width.

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        scale = _scale(states, epsilon)
        ctx.save_for_backward(states, weight, scale)
        return _unit(states, scale).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        states, weight, scale = ctx.saved_tensors
        grad = gradients[0]
        unit = _unit(states, scale)
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = (grad * unit).flatten(0, -2).sum(0, dtype=torch.float32).to(weight.dtype)
        return _norm_grad(grad * weight, unit, scale), of_weight, None


def _scale(states: Tensor, epsilon: float) -> Tensor:
    length = torch.linalg.vector_norm(states, dim=-1, keepdim=True, dtype=torch.float32)
    return torch.rsqrt(length.square_().div_(states.shape[-1]).add_(epsilon))


def _unit(states: Tensor, scale: Tensor) -> Tensor:
    return torch.mul(states, scale, out=torch.empty_like(states))


def _norm_grad(weighed: Tensor, unit: Tensor, scale: Tensor) -> Tensor:
    """Return the gradient w.r.t. the inputs, given the gradient w.r.t. the normalized vectors."""
    share = torch.linalg.vecdot(weighed.float(), unit.float())[..., None].div_(-unit.shape[-1])
    moved = torch.addcmul(weighed, unit, share.to(unit.dtype))
    return torch.mul(moved, scale, out=torch.empty_like(moved))


class Rotate(torch.autograd.Function):
    """Rotary positions (Su et al. 2021) on [B, T, heads, head_dim] with cosines and sines [B, T, head_dim], both halves
    of which are equal; backward is the inverse rotation."""

    # y = R x with R = [[cos, -sin], [sin, cos]] for each pair (x_i, x_(i + n/2)); R^T turns by minus the angle:
    # dx = R^T g = g * cos - roll(g, n/2) * s with s = (-sin, sin), which is `_turn` with -s.

    @staticmethod
    def forward(ctx: Any, states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        cos, sin = cos[:, :, None], _signed(sin[:, :, None])
        ctx.save_for_backward(cos, sin)
        return _turn(states, cos, sin)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        cos, sin = ctx.saved_tensors
        return _turn(gradients[0], cos, -sin), None, None


def _signed(sin: Tensor) -> Tensor:
    half = sin.shape[-1] // 2
    return torch.cat([-sin[..., :half], sin[..., half:]], -1)


def _turn(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return torch.mul(states, cos).addcmul_(states.roll(states.shape[-1] // 2, -1), sin)


class SwiGLU(torch.autograd.Function):
    """silu(gate) * up of [N, 2 * width], gate first (Shazeer 2020)."""

    # y = silu(a) * b with silu(a) = a sigma(a); for the gradient g of y:
    # db = g * silu(a), and da = g * b * silu'(a) with silu'(a) = sigma(a) (1 + a (1 - sigma(a))).

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        ctx.save_for_backward(both)
        return _gated(both)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        [both] = ctx.saved_tensors
        return _gate_grad(both, gradients[0])


def _gated(both: Tensor) -> Tensor:
    gate, up = both.chunk(2, -1)
    return functional.silu(gate).mul_(up)


def _gate_grad(both: Tensor, grad: Tensor) -> Tensor:
    gate, up = both.chunk(2, -1)
    found = torch.empty_like(both)
    of_gate, of_up = found.chunk(2, -1)
    torch.mul(functional.silu(gate), grad, out=of_up)
    torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=of_gate)
    return found


class InputStep(Protocol):
    """The operation that computes the input of a product. It is recomputed in backward, which costs less than storing
    its result."""

    @property
    def learns(self) -> bool: ...
    def apply(self, source: Tensor) -> Tensor:
        """Compute the input as an autograd step of its own."""
        ...

    def make(self, source: Tensor) -> Tensor: ...
    def grad(self, source: Tensor, of_made: Tensor) -> Tensor:
        """Return the gradient w.r.t. the source, given the gradient w.r.t. the input; `of_made` may be overwritten."""
        ...


@dataclass(frozen=True)
class AfterNorm:
    """The input is the output of an RMSNorm."""

    weight: Tensor
    epsilon: float

    @property
    def learns(self) -> bool:
        return self.weight.requires_grad

    def apply(self, source: Tensor) -> Tensor:
        return RMSNorm.apply(source, self.weight, self.epsilon)

    def make(self, source: Tensor) -> Tensor:
        return _unit(source, _scale(source, self.epsilon)).mul_(self.weight)

    def grad(self, source: Tensor, of_made: Tensor) -> Tensor:
        scale = _scale(source, self.epsilon)
        return _norm_grad(of_made.mul_(self.weight), _unit(source, scale), scale)


@dataclass(frozen=True)
class AfterGate:
    """The input is the output of a gate, silu(gate) * up."""

    learns: bool = False

    def apply(self, source: Tensor) -> Tensor:
        return SwiGLU.apply(source)

    def make(self, source: Tensor) -> Tensor:
        return _gated(source)

    def grad(self, source: Tensor, of_made: Tensor) -> Tensor:
        return _gate_grad(source, of_made)


GATE = AfterGate()


class Joined(torch.autograd.Function):
    """residual + states @ weight.T + bias, plus each adapter's up(down(states)) * scale on its own outputs, where
    `before` computes the states from the source. The weight is frozen. `shape` is (outputs, whether it has an adapter,
    scale) of each layer, `adapters` their down and up matrices."""

    # y = r + x W^T + b + (x A^T) B, where A are all downs under each other and B = `_block` holds s_i U_i^T on the
    # outputs of i. For the gradient g of y: dr = g, dx = g W + (g B^T) A, dA = (g B^T)^T x, dU_i = s_i g_i^T (x A_i^T).

    @staticmethod
    def forward(
        ctx: Any,
        source: Tensor,
        residual: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        before: InputStep | None,
        shape: Shape,
        *adapters: Tensor,
    ) -> Tensor:
        states = before.make(source) if before else source
        found = states @ weight.T if residual is None else torch.addmm(residual, states, weight.T)
        if bias is not None:
            found += bias
        thin = None
        if adapters:
            thin = states @ torch.cat(adapters[::2]).T
            found.addmm_(thin, _block(shape, adapters))
        ctx.shape, ctx.before, ctx.has_residual = shape, before, residual is not None
        ctx.save_for_backward(source, weight, thin, *adapters)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        grad = gradients[0]
        saved: Any = ctx.saved_tensors
        source, weight, thin, *adapters = saved
        wanted = ctx.needs_input_grad[0]
        of_states = grad @ weight if wanted else None
        found: list[Tensor] = []
        if adapters:
            of_thin = grad @ _block(ctx.shape, adapters).T
            if of_states is not None:
                of_states.addmm_(of_thin, torch.cat(adapters[::2]))
            states = ctx.before.make(source) if ctx.before else source
            found = _of_adapters(ctx.shape, of_thin.T @ states, grad, thin, adapters)
        of_source = ctx.before.grad(source, of_states) if ctx.before and wanted else of_states
        return of_source, grad if ctx.has_residual else None, None, None, None, None, *found


def _of_adapters(shape: Shape, of_down: Tensor, grad: Tensor, thin: Tensor, adapters: list[Tensor]) -> list[Tensor]:
    """Return the gradients of each adapter's down and up matrices."""
    found: list[Tensor] = []
    first = rank = 0
    for outputs, adapted, scale in shape:
        if adapted:
            width = adapters[len(found)].shape[0]
            part = grad[:, first : first + outputs].T @ thin[:, rank : rank + width]
            found += [of_down[rank : rank + width], part.mul_(scale)]
            rank += width
        first += outputs
    return found


def _block(shape: Shape, adapters: Any) -> Tensor:
    """Return the scaled up matrices as a block-diagonal matrix [all ranks, all outputs]: an adapter affects its own
    outputs only."""
    ups = list(adapters[1::2])
    if len(shape) == 1:
        return (ups[0] * shape[0][2]).T
    ranks = sum(up.shape[1] for up in ups)
    found = ups[0].new_zeros(ranks, sum(outputs for outputs, _, _ in shape))
    first = rank = 0
    for outputs, adapted, scale in shape:
        if adapted:
            up = ups.pop(0)
            torch.mul(up.T, scale, out=found[rank : rank + up.shape[1], first : first + outputs])
            rank += up.shape[1]
        first += outputs
    return found
