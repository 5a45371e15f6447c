"""Linear layers with weights packed by oneDNN for this CPU: the same products, several times faster in float32.

The two operators are those that torch.compile's freezing uses and have no public interface, so they are used in this
module only: if they are missing, or do not return what `torch.nn.functional.linear` returns, the model is used as it
is.
"""

import copy
import logging
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Literal, TypeGuard
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from inference.models.loading import free_memory

log = logging.getLogger(__name__)

ROWS = 16
FEW = 4
_CLEARLY = 0.93
SMALLEST = 1 << 15
_DTYPES = (torch.float32, torch.bfloat16)
_twins: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()
_packed = WeakIdKeyDictionary()
_lock = threading.Lock()


class PrepackedLinear(nn.Linear):
    """An `nn.Linear` that multiplies with a packed copy of its weight. The weight itself stays, shared."""

    packed: Tensor

    def forward(self, input: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(input, self.packed, self.bias, "none", [], "")


def prepacked(model: nn.Module) -> nn.Module:
    """Return a twin of `model` with prepacked linear layers that shares its parameters; `model` itself if that is not
    possible.

    The twin is made once per model and freed with it; models that share a weight share its packed copy. The weights
    must not change afterwards.
    """
    with _lock:
        twin = _twins.get(model)
        if twin is None:
            if not possible(model):
                return model
            twin = _twins[model] = _make_twin(model)
        return twin


def possible(model: nn.Module) -> bool:
    """Return whether the model's linear layers can be prepacked here, and there is memory for it."""
    return _suited(model) and not lacks_memory(model)


def lacks_memory(model: nn.Module) -> bool:
    """Return whether prepacking is possible here but omitted because it would take too much of the free memory."""
    if not _suited(model):
        return False
    weights = [layer.weight for layer in model.modules() if _worth_it(layer) and layer.weight not in _packed]
    needed = sum(weight.numel() * weight.element_size() for weight in weights)
    return needed >= 0.5 * free_memory("cpu")


def _suited(model: nn.Module) -> bool:
    weights = [layer.weight for layer in model.modules() if _worth_it(layer)]
    if not weights or any(w.device.type != "cpu" or w.dtype not in _DTYPES for w in weights):
        return False
    return supported(weights[0].dtype)


def _worth_it(layer: nn.Module) -> TypeGuard[nn.Linear]:
    return type(layer) is nn.Linear and layer.weight.numel() >= SMALLEST


def _make_twin(model: nn.Module) -> nn.Module:
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, shared)
    for layer in twin.modules():
        if _worth_it(layer):
            packed = packed_of(layer.weight)
            layer.__class__ = PrepackedLinear
            layer.register_buffer("packed", packed, persistent=False)
    return twin.eval()


def packed_of(*weights: Tensor) -> Tensor:
    """Return the packed form of stacked weights [out, in], made once."""
    known = _packed.get(weights[0])
    if known is None or known[1] != len(weights):
        joined = weights[0] if len(weights) == 1 else torch.cat([weight.detach() for weight in weights])
        known = _packed[weights[0]] = pack(joined), len(weights)
    return known[0]


def pack(weight: Tensor) -> Tensor:
    """Return the packed form of a weight [out, in], best for about `ROWS` rows."""
    # P = reorder(W): the same numbers in blocks that fit oneDNN's kernel, so product(x, P) = x W^T except for rounding.
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)


@cache
def supported(dtype: torch.dtype) -> bool:
    """Return whether this build and CPU have the operators and they agree with the ordinary product."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        return _agrees(dtype)
    except (RuntimeError, AttributeError) as error:
        log.info("prepacked linear layers are not available: %s", error)
        return False


def _agrees(dtype: torch.dtype) -> bool:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(192, 256, generator=generator).to(dtype)
    rows = torch.randn(3, 1, 256, generator=generator).to(dtype)
    ours = _product(rows, pack(weight))
    exact = rows.double() @ weight.double().T
    tolerance = 1e-4 if dtype == torch.float32 else 0.5
    return bool((ours.double() - exact).abs().max() < tolerance)


@cache
@torch.inference_mode()
def for_one_row(dtype: torch.dtype) -> Literal["packed", "padded", "plain"]:
    """Return which weights are fastest for a product with one row on this CPU, measured over several weights: packed
    ones, packed ones with `FEW` rows instead of one, or plain ones. The result depends on the processor."""
    # "padded": x W^T is the first row of [x; ...] W^T, which some processors compute in less time than x W^T alone.
    weights = [torch.ones(1536, 576, dtype=dtype) for _ in range(16)]
    packed = [pack(weight) for weight in weights]
    row, few = (torch.ones(rows, 576, dtype=dtype) for rows in (1, FEW))
    ways: dict[Literal["packed", "padded", "plain"], Callable[[], object]] = {
        "packed": lambda: [_product(row, matrix) for matrix in packed],
        "padded": lambda: [_product(few, matrix) for matrix in packed],
        "plain": lambda: [nn.functional.linear(row, weight) for weight in weights],
    }
    seconds = [{way: _seconds(work) for way, work in ways.items()} for _ in range(5)]
    best = {way: min(trial[way] for trial in seconds) for way in ways}
    fastest = min(ways, key=best.__getitem__)
    return fastest if best[fastest] < _CLEARLY * best["packed"] else "packed"


def _product(rows: Tensor, packed: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, packed, None, "none", [], "")


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
