"""Prepacked linear layers: true products, shared weights, a fallback."""

import gc
import itertools
import weakref

import pytest
import torch
from torch import nn

from inference.engine import prepacked


class Small(nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.first = nn.Linear(256, 192, dtype=dtype)
        self.second = nn.Linear(192, 256, bias=False, dtype=dtype)
        self.tiny = nn.Linear(4, 4, dtype=dtype)

    def forward(self, x):
        return self.second(self.first(x).relu())


needs_operators = pytest.mark.skipif(
    not prepacked.supported(torch.float32), reason="this build of torch has no oneDNN prepacking"
)


@needs_operators
@pytest.mark.parametrize("rows", [1, 3, 11, 40])
def test_products_are_those_of_float32(rows):
    torch.manual_seed(0)
    model, x = Small(), torch.randn(rows, 5, 256)
    exact = Small(torch.float64)
    exact.load_state_dict(model.state_dict())
    with torch.inference_mode():
        ours, plain = prepacked.prepacked(model)(x), model(x)
        truth = exact(x.double())
    assert (ours - truth).abs().max() < 4 * (plain - truth).abs().max() + 1e-6


@needs_operators
def test_the_twin_shares_the_weights_and_leaves_the_model_as_it_is():
    model = Small()
    twin = prepacked.prepacked(model)
    assert twin is not model
    assert twin is prepacked.prepacked(model)
    assert type(model.first) is nn.Linear
    assert type(twin.first) is prepacked.PrepackedLinear
    assert type(twin.tiny) is nn.Linear
    assert twin.first.weight is model.first.weight


@needs_operators
def test_the_twin_goes_with_its_model():
    model = Small()
    twin = weakref.ref(prepacked.prepacked(model))
    assert twin() is not None
    del model
    gc.collect()
    assert twin() is None


@needs_operators
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_one_row_is_multiplied_with_is_what_was_faster(dtype, monkeypatch):
    if not prepacked.supported(dtype):
        pytest.skip("no such products here")
    cases = {
        (1.0, 1.1, 2.0): "packed",
        (1.0, 0.95, 0.95): "packed",
        (1.0, 0.9, 2.0): "padded",
        (1.5, 1.4, 1.0): "plain",
    }
    for took, fastest in cases.items():
        seconds = itertools.cycle(took)
        monkeypatch.setattr(prepacked, "_seconds", lambda work, seconds=seconds: work() and next(seconds))
        prepacked.for_one_row.cache_clear()
        assert prepacked.for_one_row(dtype) == fastest
    prepacked.for_one_row.cache_clear()


def test_without_the_operators_the_model_is_used_as_it_is(monkeypatch):
    monkeypatch.setattr(prepacked, "supported", lambda dtype: False)
    model = Small()
    assert prepacked.prepacked(model) is model


def test_a_lack_of_memory_or_another_dtype_leaves_the_model_as_it_is(monkeypatch):
    half = Small(torch.float16)
    assert prepacked.prepacked(half) is half
    monkeypatch.setattr(prepacked, "free_memory", lambda device: 1000)
    model = Small()
    assert prepacked.prepacked(model) is model
