"""One layer of the fast forward pass."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from inference.engine.fast_linear import Product, product_of


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
        """Return the output of the layer. `states` is [rows * length, size], maybe with padding rows that are ignored;
        `cos` and `sin` are [length, 1, head_dim], `room` is what LeanCache.layer returns."""
        query = self._query(norm(states, *self.norms[0]), cos, sin, room, rows, tuned)
        attended = self._attend(query, *room)
        attended = padded(attended.reshape(-1, self.heads * self.head_dim), len(states))
        states = self.output.with_operand(attended, states, tuned, "add")
        inner = norm(states, *self.norms[1])
        inner = self.up.with_operand(inner, self.gate(inner, tuned, "swish"), tuned, "mul")
        return self.down.with_operand(inner, states, tuned, "add")

    def _query(
        self,
        states: Tensor,
        cos: Tensor,
        sin: Tensor,
        room: tuple[Tensor, Tensor, int],
        rows: int,
        tuned: Tensor | None,
    ) -> Tensor:
        """Return the rotated queries [rows, length, heads, head_dim]; keys and values are written to the cache."""
        keys, values, before = room
        both = self.heads + self.key_heads
        found = self.query_key_value(states, tuned)[: rows * len(cos)]
        found = found.view(rows, len(cos), both + self.key_heads, self.head_dim)
        turned = found[:, :, :both]
        if self.head_norms is not None:
            parts = turned[:, :, : self.heads], turned[:, :, self.heads :]
            turned = torch.cat([norm(part, *own) for part, own in zip(parts, self.head_norms, strict=True)], 2)
        turned = torch.addcmul(turned * cos, turned.roll(self.head_dim // 2, -1), sin)
        keys[:, :, before:] = turned[:, :, self.heads :].transpose(1, 2)
        values[:, :, before:] = found[:, :, both:].transpose(1, 2)
        return turned[:, :, : self.heads]

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, before: int) -> Tensor:
        """Return the attention of each new position to all positions up to itself [rows, length, heads, head_dim]."""
        rows, length = query.shape[:2]
        if length == 1:  # the query heads of one key head are like so many positions: no mask, nothing repeated
            grouped = query.view(rows, self.key_heads, -1, self.head_dim)
            return functional.scaled_dot_product_attention(grouped, keys, values, scale=self.scale)
        keys, values = (part.repeat_interleave(self.heads // self.key_heads, 1) for part in (keys, values))
        mask = None
        if before:
            mask = torch.ones(length, before + length, dtype=torch.bool, device=query.device).tril(before)
        attended = functional.scaled_dot_product_attention(
            query.transpose(1, 2), keys, values, attn_mask=mask, is_causal=not before, scale=self.scale
        )
        return attended.transpose(1, 2)


def padded(states: Tensor, least: int) -> Tensor:
    """Return `states` [positions, size] with zeros appended if there are fewer than `least` positions."""
    return states if len(states) >= least else functional.pad(states, (0, 0, 0, least - len(states)))


def norm(states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Return the RMS norm over the last dimension, computed in float32 (Zhang & Sennrich 2019)."""
    if states.is_cuda:
        return functional.rms_norm(states, weight.shape, weight, epsilon)
    wide = states.float()
    length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    mean = (length * length).div_(states.shape[-1]).add_(epsilon)
    return (wide * mean.rsqrt_()).to(states.dtype) * weight


def layer_of(layer: Any) -> Layer | None:
    """Return a transformers decoder layer in the fast form; None if something in it is not as expected."""
    attention, feed = layer.self_attn, layer.mlp
    joined = product_of(attention.q_proj, attention.k_proj, attention.v_proj)
    products = [product_of(module) for module in (attention.o_proj, feed.gate_proj, feed.up_proj, feed.down_proj)]
    if joined is None:
        return None
    found = [product for product in products if product is not None]
    if len(found) < len(products):
        return None
    norms = _norm(layer.input_layernorm), _norm(layer.post_attention_layernorm)
    of_heads = hasattr(attention, "q_norm")
    head_norms = (_norm(attention.q_norm), _norm(attention.k_norm)) if of_heads else None
    size = attention.head_dim
    counts = attention.config.num_attention_heads, attention.config.num_key_value_heads
    output, gate, up, down = found
    return Layer(joined, output, gate, up, down, norms, head_norms, *counts, size, attention.scaling)


def _norm(module: Any) -> tuple[Tensor, float]:
    return module.weight.detach(), module.variance_epsilon
