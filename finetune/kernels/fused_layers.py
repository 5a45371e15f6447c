"""Fast Llama-like decoder layers for training: norm, rotation, gate and adapters are one autograd function each, and
the matrix products of one input are joined (`fused_autograd`).

In the layers of transformers and PEFT, half of a step are products and half are passes over memory: norms in float32,
a separate product for each adapter, sums of their gradients. Here query, key and value are one product with one adapter
product beside it, and so are gate and up; for backward, only what is expensive to recompute is kept. The results equal
those of `modeling_llama`, `modeling_qwen2`, `modeling_qwen3` and `modeling_mistral` of transformers 5.23 and of
`peft.tuners.lora`, except for rounding.
"""

import sys
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from finetune.kernels.fused_autograd import GATE, AfterNorm, InputStep, Joined, Rotate

LAYERS = ("LlamaDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer", "MistralDecoderLayer")
NORMS = ("LlamaRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "MistralRMSNorm")
_ATTENTION = AttentionInterface()


def fuse(model: nn.Module) -> int:
    """Replace the forward pass of the model's decoder layers of a known type. Returns how many were replaced."""
    found: list[Any] = [layer for layer in model.modules() if type(layer).__name__ in LAYERS and _is_usual(layer)]
    for layer in found:
        layer.tunescope_forward = layer.forward
        layer.forward = MethodType(_forward, layer)
    return len(found)


def _is_usual(layer: Any) -> bool:
    norms = [layer.input_layernorm, layer.post_attention_layernorm]
    attention = layer.self_attn
    heads = [getattr(attention, name) for name in ("q_norm", "k_norm") if hasattr(attention, name)]
    return all(type(norm).__name__ in NORMS for norm in norms + heads) and layer.mlp.config.hidden_act == "silu"


def _forward(
    layer: Any,
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    past_key_values: Any = None,
    use_cache: bool | None = False,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    **kwargs: Any,
) -> Tensor:
    """Run the layer over `hidden_states` [B, T, width]. With a KV cache, which training never has, the original forward
    runs."""
    if past_key_values is not None or position_embeddings is None:
        return layer.tunescope_forward(
            hidden_states,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            position_embeddings=position_embeddings,
            **kwargs,
        )
    # h = x + Attention(norm(x) [Wq; Wk; Wv]^T) Wo^T, and the layer gives h + (silu(a) * b) Wdown^T with
    # [a, b] = norm(h) [Wgate; Wup]^T: each product is one `Joined`, whose comment has the backward step.
    batch, length, width = hidden_states.shape
    attention, mlp = layer.self_attn, layer.mlp
    states = hidden_states.reshape(-1, width)
    mixed = joined(states, (attention.q_proj, attention.k_proj, attention.v_proj), before=_after(layer.input_layernorm))
    query, key, value = _rotated(attention, mixed.view(batch, length, -1, attention.head_dim), position_embeddings)
    eager = sys.modules[type(attention).__module__].eager_attention_forward  # type: ignore[attr-defined]
    attend = _ATTENTION.get_interface(attention.config._attn_implementation, eager)
    dropout = attention.attention_dropout if attention.training else 0.0
    window = {"sliding_window": attention.sliding_window} if getattr(attention, "sliding_window", None) else {}
    seen, _ = attend(
        attention, query, key, value, attention_mask, dropout=dropout, scaling=attention.scaling, **window, **kwargs
    )
    states = joined(seen.reshape(batch * length, -1), (attention.o_proj,), states)
    inner = joined(states, (mlp.gate_proj, mlp.up_proj), before=_after(layer.post_attention_layernorm))
    return joined(inner, (mlp.down_proj,), states, GATE).view(batch, length, width)


def _after(norm: Any) -> AfterNorm:
    return AfterNorm(norm.weight, norm.variance_epsilon)


def _rotated(attention: Any, mixed: Tensor, angles: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values [B, heads, T, head_dim] from their joint product [B, T, all heads, head_dim]."""
    size = attention.head_dim
    queries = attention.q_proj.out_features // size
    keys = attention.k_proj.out_features // size
    if hasattr(attention, "q_norm"):
        parts = mixed[:, :, :queries], mixed[:, :, queries : queries + keys]
        norms = attention.q_norm, attention.k_norm
        normed = [_after(norm).apply(part) for part, norm in zip(parts, norms, strict=True)]
        turned = Rotate.apply(torch.cat(normed, 2), *angles)
        value = mixed[:, :, queries + keys :]
    else:
        turned, value = Rotate.apply(mixed[:, :, : queries + keys], *angles), mixed[:, :, queries + keys :]
    turned = turned.transpose(1, 2)
    return turned[:, :queries], turned[:, queries:], value.transpose(1, 2)


@dataclass(frozen=True)
class _Linear:
    """A linear layer with its adapter: `down` [r, in], `up` [out, r] times `scale`."""

    weight: Tensor
    bias: Tensor | None
    down: Tensor | None = None
    up: Tensor | None = None
    scale: float = 1.0


def joined(
    source: Tensor, modules: tuple[Any, ...], residual: Tensor | None = None, before: InputStep | None = None
) -> Tensor:
    """Return the outputs of linear layers with one common input [N, in], which `before` computes from `source`, side by
    side, plus `residual` [N, out] if given. Layers that are trained themselves, or whose adapter is not a plain LoRA,
    run unchanged."""
    parts = [_part(module) for module in modules]
    if any(part is None for part in parts) or (before and before.learns):
        states = before.apply(source) if before else source
        found = [module(states) for module in modules]
        whole = found[0] if len(found) == 1 else torch.cat(found, -1)
        return whole if residual is None else residual + whole
    linears = [part for part in parts if part is not None]
    weight = _side_by_side(modules[0], linears)
    biases = [linear.bias for linear in linears]
    bias = torch.cat([b for b in biases if b is not None]) if all(b is not None for b in biases) else None
    adapters = [tensor for linear in linears if linear.down is not None for tensor in (linear.down, linear.up)]
    shape = tuple((linear.weight.shape[0], linear.down is not None, linear.scale) for linear in linears)
    return Joined.apply(source, residual, weight, bias, before, shape, *adapters)


def _part(module: Any) -> _Linear | None:
    """Return a frozen linear layer with at most one plain LoRA adapter without dropout; None for anything else."""
    base = getattr(module, "base_layer", module)
    if type(base) is not nn.Linear or base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad):
        return None
    if base is module:
        return _Linear(base.weight, base.bias)
    names: list[str] = list(getattr(module, "active_adapters", ()))
    if module.disable_adapters or module.merged or len(names) != 1 or names[0] not in module.lora_A:
        return _Linear(base.weight, base.bias) if module.disable_adapters and not module.merged else None
    [name] = names
    odd = name in module.lora_variant or module.lora_bias.get(name)
    odd = odd or not isinstance(module.lora_dropout[name], nn.Identity)
    if odd or module.lora_A[name].weight.dtype != base.weight.dtype:
        return None
    return _Linear(
        base.weight, base.bias, module.lora_A[name].weight, module.lora_B[name].weight, float(module.scaling[name])
    )


def _side_by_side(first: Any, linears: list[_Linear]) -> Tensor:
    """Return the weights stacked [out, in] in one tensor; each layer's weight becomes a view of it, so no more memory
    is used."""
    if len(linears) == 1:
        return linears[0].weight
    kept = getattr(first, "tunescope_joined", None)
    parts = [linear.weight for linear in linears]
    if kept is None or kept.data_ptr() != parts[0].data_ptr():
        kept = torch.cat([part.detach() for part in parts])
        start = 0
        for part in parts:
            part.data = kept[start : start + len(part)]
            start += len(part)
        first.tunescope_joined = kept
    return kept
