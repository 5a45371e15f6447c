"""One layer of the lean forward, and the products it is made of."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.prepacked import PrepackedLinear, packed_of

Adapter = tuple[Tensor, Tensor, float]


@dataclass(frozen=True)
class Product:
    """x @ weight.T + bias on a prepacked weight. `adapters` are LoRA's (A, B, scale, first output, last output), added
    for the positions that are tuned."""

    packed: Tensor
    bias: Tensor | None
    adapters: tuple[tuple[Tensor, Tensor, float, int, int], ...] = ()

    def __call__(self, states: Tensor, tuned: Tensor | None = None, activation: str = "none") -> Tensor:
        """`states` [positions, in]; returns [positions, out]."""
        if tuned is None or not self.adapters:
            return torch.ops.mkldnn._linear_pointwise(states, self.packed, self.bias, activation, [], "")
        found = torch.ops.mkldnn._linear_pointwise(states, self.packed, self.bias, "none", [], "")
        self._adapt(found, states, tuned)
        return functional.silu(found) if activation == "swish" else found

    def with_other(self, states: Tensor, other: Tensor, tuned: Tensor | None, how: str) -> Tensor:
        """The product and then `how` ("add" or "mul") with `other` [positions, out]."""
        if tuned is None or not self.adapters:
            return torch.ops.mkldnn._linear_pointwise.binary(states, other, self.packed, self.bias, how)
        found = self(states, tuned)
        return found + other if how == "add" else found * other

    def _adapt(self, found: Tensor, states: Tensor, tuned: Tensor) -> None:
        """Add the adapters' part to the tuned positions, as PEFT does: in the adapter's own type."""
        own = states[tuned]
        for down, up, scale, first, last in self.adapters:
            delta = functional.linear(functional.linear(own.to(down.dtype), down), up) * scale
            part = found[:, first:last]
            part[tuned] = (part[tuned] + delta).to(found.dtype)


@dataclass(frozen=True)
class Layer:
    """Attention and feed-forward of one layer, with their norms."""

    query_key_value: Product
    output: Product
    gate: Product
    up: Product
    down: Product
    norms: tuple[tuple[Tensor, float], tuple[Tensor, float]]
    head_norms: tuple[tuple[Tensor, float], tuple[Tensor, float]] | None
    heads: int
    key_heads: int
    head_dim: int
    scale: float

    def forward(
        self,
        states: Tensor,
        cos: Tensor,
        sin: Tensor,
        room: tuple[Tensor, Tensor, int],
        rows: int,
        tuned: Tensor | None,
    ) -> Tensor:
        """`states` [rows * length, size], `cos` and `sin` [length, 1, head_dim], `room` as LeanCache.layer gives it."""
        query = self._query(norm(states, *self.norms[0]), cos, sin, room, rows, tuned)
        attended = self._attend(query, *room)
        states = self.output.with_other(attended.reshape(len(states), -1), states, tuned, "add")
        inner = norm(states, *self.norms[1])
        inner = self.up.with_other(inner, self.gate(inner, tuned, "swish"), tuned, "mul")
        return self.down.with_other(inner, states, tuned, "add")

    def _query(
        self,
        states: Tensor,
        cos: Tensor,
        sin: Tensor,
        room: tuple[Tensor, Tensor, int],
        rows: int,
        tuned: Tensor | None,
    ) -> Tensor:
        """The rotated queries [rows, length, heads, head_dim]; keys and values go into their room."""
        keys, values, before = room
        both = self.heads + self.key_heads
        found = self.query_key_value(states, tuned).view(rows, -1, both + self.key_heads, self.head_dim)
        turned = found[:, :, :both]
        if self.head_norms is not None:
            parts = turned[:, :, : self.heads], turned[:, :, self.heads :]
            turned = torch.cat([norm(part, *own) for part, own in zip(parts, self.head_norms, strict=True)], 2)
        turned = torch.addcmul(turned * cos, turned.roll(self.head_dim // 2, -1), sin)
        keys[:, :, before:] = turned[:, :, self.heads :].transpose(1, 2)
        values[:, :, before:] = found[:, :, both:].transpose(1, 2)
        return turned[:, :, : self.heads]

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, before: int) -> Tensor:
        """Attention of each new position to all up to itself [rows, length, heads, head_dim]."""
        rows, length = query.shape[:2]
        if length == 1:  # the query heads of one key head are like so many positions: no mask, nothing repeated
            grouped = query.view(rows, self.key_heads, -1, self.head_dim)
            weights = torch.matmul(grouped, keys.transpose(-1, -2)).mul_(self.scale).softmax(-1)
            return torch.matmul(weights, values)
        keys, values = (part.repeat_interleave(self.heads // self.key_heads, 1) for part in (keys, values))
        mask = None if not before else torch.ones(length, before + length, dtype=torch.bool).tril(before)
        attended = functional.scaled_dot_product_attention(
            query.transpose(1, 2), keys, values, attn_mask=mask, is_causal=not before, scale=self.scale
        )
        return attended.transpose(1, 2)


def norm(states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """RMS norm over the last dimension, computed in float32 (Zhang & Sennrich 2019)."""
    if states.dtype == torch.float32:
        return functional.rms_norm(states, weight.shape, weight, epsilon)
    wide = states.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)).to(states.dtype)


def layer_of(layer: Any) -> Layer | None:
    """A transformers decoder layer in lean form; None where something in it is not as expected."""
    attention, feed = layer.self_attn, layer.mlp
    query, key = _linear(attention.q_proj), _linear(attention.k_proj)
    joined = product_of(attention.q_proj, attention.k_proj, attention.v_proj)
    others = [product_of(one) for one in (attention.o_proj, feed.gate_proj, feed.up_proj, feed.down_proj)]
    if joined is None or query is None or key is None:
        return None
    found = [product for product in others if product is not None]
    if len(found) < len(others):
        return None
    norms = _norm(layer.input_layernorm), _norm(layer.post_attention_layernorm)
    of_heads = hasattr(attention, "q_norm")
    head_norms = (_norm(attention.q_norm), _norm(attention.k_norm)) if of_heads else None
    size = attention.head_dim
    counts = query.out_features // size, key.out_features // size
    output, gate, up, down = found
    return Layer(joined, output, gate, up, down, norms, head_norms, *counts, size, attention.scaling)


def _norm(module: Any) -> tuple[Tensor, float]:
    return module.weight.detach(), module.variance_epsilon


def product_of(*modules: Any) -> Product | None:
    """One product of linear layers side by side, with the adapters that PEFT put on them; None for other modules."""
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
    biases = [linear.bias for linear in layers]
    bias = None if all(one is None for one in biases) else torch.cat([_bias(linear) for linear in layers])
    return Product(packed_of(*(linear.weight for linear in layers)), bias, tuple(adapters))


def _bias(linear: nn.Linear) -> Tensor:
    return linear.bias.detach() if linear.bias is not None else linear.weight.new_zeros(linear.out_features)


def _linear(module: Any) -> nn.Linear | None:
    """The plain linear layer itself, or under a LoRA layer."""
    inner = module if isinstance(module, nn.Linear) else getattr(module, "base_layer", None)
    return inner if type(inner) in (nn.Linear, PrepackedLinear) else None


def _adapter(module: Any) -> Adapter | None:
    """A, B and the scale of a plain LoRA layer's adapter; None for its variants."""
    from peft.tuners.lora.layer import Linear

    if type(module) is not Linear or _altered(module):
        return None
    layer: Any = module
    if "default" not in layer.lora_A:
        return None
    weights = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
    return (*weights, float(layer.scaling["default"]))


def _altered(layer: Any) -> bool:
    """Whether a LoRA layer computes anything but base + scale * B(A(x))."""
    return bool(layer.lora_variant or layer.merged or any(layer.lora_bias.values()))
