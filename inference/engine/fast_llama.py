"""Fast forward pass for Llama-like models: one product for query, key and value, one KV-cache tensor.

With few rows a CPU spends as much time on calling small operators as on the products, and a GPU waits for its calls
most of the time; so here a layer is about sixteen operators instead of fifty: query, key and value are one product, on
a CPU oneDNN fuses activation and residual into the products, and the keys and values of all layers are in one tensor.
It computes what transformers 5.23 computes (`modeling_llama`, `modeling_qwen2`, `modeling_qwen3`, `modeling_mistral`)
except for rounding; it is compared with the model before its use.
"""

import logging
import threading
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from inference.engine.decoder import ADAPTER, BASE, Output, plain_model
from inference.engine.fast_layers import Layer, layer_of, norm, padded
from inference.engine.fast_linear import least_rows, product_of
from inference.engine.kv_cache import LeanCache
from inference.engine.prepacked import possible

log = logging.getLogger(__name__)

KINDS = ("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "MistralForCausalLM")
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}  # of the greatest logit
_known: "WeakKeyDictionary[nn.Module, LeanModel | None]" = WeakKeyDictionary()
_lock = threading.Lock()


@dataclass(frozen=True)
class LeanModel:
    """The weights of a model, arranged for the fast forward pass."""

    layers: list[Layer]
    embedding: Any
    rotary: Any
    last_norm: tuple[Tensor, float]
    head: Any
    head_dim: int
    scale: float
    least: int = 1

    @torch.inference_mode()
    def forward(self, ids: Tensor, tuned: Tensor | None, cache: LeanCache, hidden: bool, every: bool) -> Output:
        """Extend the rows by `ids` [rows, length]; `tuned` holds the indices of the flattened positions with the
        adapter."""
        rows, length = ids.shape
        count = rows * length
        states = padded(self.embedding(ids.reshape(-1)), self.least)
        cos, sin = self._angles(states, cache.length, length)
        seen = [states[:count].view(rows, length, -1)] if hidden else []
        cache.extend(length)
        for number, layer in enumerate(self.layers):
            states = layer.forward(states, cos, sin, cache.layer(number, rows), rows, tuned)
            if hidden:
                seen.append(states[:count].view(rows, length, -1))
        states = norm(states, *self.last_norm)[:count].view(rows, length, -1)
        if hidden:
            seen[-1] = states
        kept = states if every else states[:, -1:]
        logits = self.head(padded(kept.reshape(-1, kept.shape[-1]), self.least))[: kept[..., 0].numel()]
        return Output(logits.view(rows, kept.shape[1], -1).float(), seen)

    def _angles(self, states: Tensor, start: int, length: int) -> tuple[Tensor, Tensor]:
        """Return cosines and signed sines [length, 1, head_dim] of the new positions: with the halves of a vector
        exchanged, x * cos + exchanged * sin is the rotated vector."""
        positions = torch.arange(start, start + length, device=states.device)[None]
        cos, sin = (part[0, :, None] for part in self.rotary(states, positions))
        half = self.head_dim // 2
        return cos, torch.cat([-sin[..., :half], sin[..., half:]], -1)


class LeanDecoder:
    """The rows of a batch on a LeanModel.

    Row i is in slot `_slots[i]` of the cache: rows that only change their order are not moved; a row that continues in
    two ways is copied once, and no other.
    """

    def __init__(self, model: LeanModel, rows: int, tokens: int) -> None:
        self._model = model
        first, self._like = model.layers[0], model.embedding.weight
        self._cache = LeanCache(len(model.layers), first.key_heads, model.head_dim, self._like, rows, tokens)
        self._slots: list[int] = []

    def forward(self, ids: Tensor, tuned: list[bool], *, hidden: bool = False, every: bool = False) -> Output:
        if not self._slots:
            self._slots = list(range(len(ids)))
        order = sorted(range(len(ids)), key=self._slots.__getitem__)
        with_adapter = None
        if any(tuned):
            placed = torch.tensor([tuned[row] for row in order])
            with_adapter = placed.repeat_interleave(ids.shape[1]).nonzero()[:, 0].to(self._like.device)
        placed_ids = ids[order].to(self._like.device)
        return self._in_order(self._model.forward(placed_ids, with_adapter, self._cache, hidden, every))

    def _in_order(self, output: Output) -> Output:
        """Return the output with its rows in the caller's order."""
        if self._slots == list(range(len(self._slots))):
            return output
        return Output(output.logits[self._slots], [states[self._slots] for states in output.layers])

    @property
    def can_go_back(self) -> bool:
        return True

    def reorder(self, rows: list[int]) -> None:
        sources = [self._slots[row] for row in rows]
        slots: dict[int, int] = {}
        for row, source in enumerate(sources):
            if source < len(rows) and source not in slots.values():
                slots[row] = source
        free = iter(sorted(set(range(len(rows))) - set(slots.values())))
        copies = {row: next(free) for row in range(len(rows)) if row not in slots}
        self._cache.copy([(sources[row], slot) for row, slot in copies.items()])
        self._slots = [(slots | copies)[row] for row in range(len(rows))]

    def go_back(self, positions: int) -> None:
        self._cache.go_back(positions)

    def close(self) -> None:
        self._cache.free()


def lean_of(model: nn.Module) -> LeanModel | None:
    """Return the fast form of a model, made once; None if the model is of another type or the device cannot run it.

    If a GPU lacks the memory for it, the next call tries again.
    """
    with _lock:
        if model not in _known:
            try:
                _known[model] = _checked(model)
            except torch.OutOfMemoryError:
                log.warning(
                    "no memory for the fast forward pass of %s: using its own", type(plain_model(model)).__name__
                )
                return None
        return _known[model]


def _checked(model: nn.Module) -> LeanModel | None:
    inner = plain_model(model)
    if type(inner).__name__ not in KINDS or not (possible(inner) or _is_on(inner, "cuda")) or not _simple(inner.config):
        return None
    lean = _make(inner)
    if _is_on(inner, "cuda"):
        torch.cuda.empty_cache()  # what the weights lay in before they were joined
    if lean is None or _distance(model, lean) < TOLERANCE[inner.dtype]:
        return lean
    log.warning("the fast forward pass of %s differs from its own: not used", type(inner).__name__)
    return None


def _simple(config: Any) -> bool:
    """Return whether every layer attends to all earlier positions, without a window."""
    kinds = getattr(config, "layer_types", None) or []
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    return window is None and all(kind == "full_attention" for kind in kinds) and config.hidden_act == "silu"


def _is_on(model: nn.Module, device: str) -> bool:
    """Return whether a whole model is on one such device in one dtype; adapters are computed in their own dtype."""
    weights = [weight for name, weight in model.named_parameters() if ".lora_" not in name]
    kinds = [*{(weight.device, weight.dtype) for weight in weights}]
    return len(kinds) == 1 and kinds[0][0].type == device and kinds[0][1] in TOLERANCE


def _make(inner: Any) -> LeanModel | None:
    body = inner.model
    layers = [layer_of(layer) for layer in body.layers[: inner.config.num_hidden_layers]]
    head = product_of(inner.lm_head)
    if head is None or type(body.embed_tokens) is not nn.Embedding:
        return None
    found = [layer for layer in layers if layer is not None]
    if len(found) < len(layers):
        return None
    last = body.norm.weight, body.norm.variance_epsilon
    size, scale = found[0].head_dim, body.layers[0].self_attn.scaling
    least = least_rows(body.embed_tokens.weight)
    return LeanModel(found, body.embed_tokens, body.rotary_emb, last, head, size, scale, least)


@torch.inference_mode()
def _distance(model: Any, lean: LeanModel) -> float:
    """Return the greatest difference of logits as a fraction of the greatest logit: over a short prompt, some tokens
    after it and one more step, with and without the adapter."""
    size = plain_model(model).config.vocab_size
    tuned = [True, False] if hasattr(model, "peft_config") else [False]
    ids = torch.randint(size, (1, 9), generator=torch.Generator().manual_seed(0)).repeat(len(tuned), 1)
    decoder = LeanDecoder(lean, len(tuned), 16)
    ours = [decoder.forward(part, tuned, every=True).logits for part in ids.split([5, 3, 1], 1)]
    mixed = {"adapter_names": [ADAPTER, BASE]} if len(tuned) > 1 else {}
    theirs = model(input_ids=ids.to(model.device), **mixed).logits.float()
    return float((torch.cat(ours, 1) - theirs).abs().max() / theirs.abs().max())


__all__ = ["LeanDecoder", "LeanModel", "lean_of"]
