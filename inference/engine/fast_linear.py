"""The matrix products of the fast forward pass: linear layers stacked into one matrix, with the adapters that PEFT put
on them.

On a CPU oneDNN multiplies with a packed copy of the matrix and fuses activation and residual; elsewhere the matrix is
multiplied as it is.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.engine.prepacked import FEW, PrepackedLinear, for_one_row, packed_of

Adapter = tuple[Tensor, Tensor, float]


class Matrix(Protocol):
    """x @ weight.T + bias: states [positions, in] to [positions, out]."""

    def times(self, states: Tensor, activation: str = "none") -> Tensor:
        """Return the product, after "swish" if `activation` says so."""

    def times_with(self, states: Tensor, operand: Tensor, how: str) -> Tensor:
        """Return the product combined with `operand` [positions, out] by `how` ("add" or "mul")."""


@dataclass(frozen=True)
class PackedMatrix:
    """A matrix that oneDNN packed for this CPU; `plain` is used instead if there is only one position."""

    # times: y = f(x W^T + b) in one call, f being swish(z) = z sigma(z) or nothing; times_with: x W^T + b, + o or * o.

    packed: Tensor
    bias: Tensor | None
    plain: "PlainMatrix | None" = None

    def times(self, states: Tensor, activation: str = "none") -> Tensor:
        if self.plain is not None and len(states) == 1:
            return self.plain.times(states, activation)
        return torch.ops.mkldnn._linear_pointwise(states, self.packed, self.bias, activation, [], "")

    def times_with(self, states: Tensor, operand: Tensor, how: str) -> Tensor:
        if self.plain is not None and len(states) == 1:
            return self.plain.times_with(states, operand, how)
        return torch.ops.mkldnn._linear_pointwise.binary(states, operand, self.packed, self.bias, how)


@dataclass(frozen=True)
class PlainMatrix:
    """A matrix [out, in] as it is."""

    weight: Tensor
    bias: Tensor | None

    def times(self, states: Tensor, activation: str = "none") -> Tensor:
        return _through(functional.linear(states, self.weight, self.bias), activation)

    def times_with(self, states: Tensor, operand: Tensor, how: str) -> Tensor:
        if how == "add" and self.bias is None:
            return torch.addmm(operand, states, self.weight.T)
        return _joined(self.times(states), operand, how)


def _through(found: Tensor, activation: str) -> Tensor:
    return functional.silu(found) if activation == "swish" else found


def _joined(found: Tensor, operand: Tensor, how: str) -> Tensor:
    return found + operand if how == "add" else found * operand


@dataclass(frozen=True)
class Product:
    """A matrix and its `adapters`: LoRA's (A, B, scale, first output, last output), added for the tuned positions."""

    # y = f(x W^T + b), and for a tuned position p: y_p = f(x_p W^T + b + scale (x_p A^T) B^T) on the adapter's outputs.
    # W stacks several layers, since x [W1; W2]^T = [x W1^T, x W2^T].

    matrix: Matrix
    adapters: tuple[tuple[Tensor, Tensor, float, int, int], ...] = ()

    def __call__(self, states: Tensor, tuned: Tensor | None = None, activation: str = "none") -> Tensor:
        """Return [positions, out] for `states` [positions, in]. `tuned` holds the indices of the tuned positions."""
        if tuned is None or not self.adapters:
            return self.matrix.times(states, activation)
        found = self.matrix.times(states)
        self._adapt(found, states, tuned)
        return _through(found, activation)

    def with_operand(self, states: Tensor, operand: Tensor, tuned: Tensor | None, how: str) -> Tensor:
        """Return the product combined with `operand` [positions, out] by `how` ("add" or "mul")."""
        if tuned is None or not self.adapters:
            return self.matrix.times_with(states, operand, how)
        return _joined(self(states, tuned), operand, how)

    def _adapt(self, found: Tensor, states: Tensor, tuned: Tensor) -> None:
        """Add the adapters' output to the tuned positions, as PEFT does: in the adapter's own dtype."""
        own = states[tuned]
        for down, up, scale, first, last in self.adapters:
            delta = functional.linear(functional.linear(own.to(down.dtype), down), up) * scale
            part = found[:, first:last]
            part[tuned] = (part[tuned] + delta).to(found.dtype)


def product_of(*modules: Any) -> Product | None:
    """Return one product for several linear layers, with the adapters that PEFT put on them; None for other modules."""
    linears = [_linear(module) for module in modules]
    layers = [linear for linear in linears if linear is not None]
    if len(layers) < len(modules):
        return None
    adapters, first = [], 0
    for module, linear in zip(modules, layers, strict=True):
        if module is not linear:
            part = _adapter(module)
            if part is None:
                return None
            adapters.append((*part, first, first + linear.out_features))
        first += linear.out_features
    return Product(matrix_of(layers), tuple(adapters))


def matrix_of(layers: list[nn.Linear]) -> Matrix:
    """Return the stacked weights of linear layers, in the form that suits their device."""
    biases = [layer.bias for layer in layers]
    bias = None if all(vector is None for vector in biases) else torch.cat([_bias(layer) for layer in layers])
    weights = [layer.weight for layer in layers]
    if not packs(weights[0]):
        return plain_matrix(weights, bias)
    alone = len(weights) == 1 and for_one_row(weights[0].dtype) == "plain"
    return PackedMatrix(packed_of(*weights), bias, plain_matrix(weights, bias) if alone else None)


def least_rows(weight: Tensor) -> int:
    """Return the least number of rows for products with such weights, since fewer rows take longer."""
    return FEW if packs(weight) and for_one_row(weight.dtype) == "padded" else 1


def packs(weight: Tensor) -> bool:
    """Return whether a weight is packed before it is used in a product."""
    return weight.device.type == "cpu"


def plain_matrix(weights: list[Tensor], bias: Tensor | None) -> PlainMatrix:
    """Return one matrix of all weights. The weights become views of it, with the same values, and their former memory
    is freed."""
    if len(weights) == 1:
        return PlainMatrix(weights[0].detach(), bias)
    known = _together(weights)
    if known is None:
        known = torch.cat([weight.detach() for weight in weights])
        for weight, part in zip(weights, known.split([len(weight) for weight in weights]), strict=True):
            weight.data = part
    return PlainMatrix(known, bias)


def _together(weights: list[Tensor]) -> Tensor | None:
    """Return the matrix that the weights are already views of, None if there is none: models that share weights share
    it."""
    first, size = weights[0].detach(), 0
    for weight in weights:
        here = weight.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not here or weight.storage_offset() != first.storage_offset() + size or not weight.is_contiguous():
            return None
        size += weight.numel()
    return first.as_strided((size // first.shape[1], first.shape[1]), (first.shape[1], 1))


def _bias(linear: nn.Linear) -> Tensor:
    return linear.bias.detach() if linear.bias is not None else linear.weight.new_zeros(linear.out_features)


def _linear(module: Any) -> nn.Linear | None:
    """Return the plain linear layer itself, or the one under a LoRA layer."""
    inner = module if isinstance(module, nn.Linear) else getattr(module, "base_layer", None)
    return inner if type(inner) in (nn.Linear, PrepackedLinear) else None


def _adapter(module: Any) -> Adapter | None:
    """Return A, B and the scale of a plain LoRA layer's adapter; None for its variants."""
    from peft.tuners.lora.layer import Linear

    if type(module) is not Linear or _altered(module):
        return None
    layer: Any = module
    if "default" not in layer.lora_A:
        return None
    weights = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
    return (*weights, float(layer.scaling["default"]))


def _altered(layer: Any) -> bool:
    """Return whether a LoRA layer computes anything but base + scale * B(A(x))."""
    return bool(layer.lora_variant or layer.merged or any(layer.lora_bias.values()))
