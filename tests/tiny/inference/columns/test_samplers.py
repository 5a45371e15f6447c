"""The filters keep what the warpers of transformers keep, and a draw is that of torch.multinomial."""

import pytest
import torch
from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, TypicalLogitsWarper

from inference.columns import samplers

PAIRS = {
    "top_p=0.9": (lambda s: samplers.top_p(s, 0.9), TopPLogitsWarper(0.9)),
    "top_p=0.3": (lambda s: samplers.top_p(s, 0.3), TopPLogitsWarper(0.3)),
    "top_p=0.999": (lambda s: samplers.top_p(s, 0.999), TopPLogitsWarper(0.999)),
    "typical_p=0.9": (lambda s: samplers.typical(s, 0.9), TypicalLogitsWarper(0.9)),
    "typical_p=0.2": (lambda s: samplers.typical(s, 0.2), TypicalLogitsWarper(0.2)),
    "top_k=50": (lambda s: samplers.top_k(s, 50), TopKLogitsWarper(50)),
    "top_k=1000": (lambda s: samplers.top_k(s, 1000), TopKLogitsWarper(1000)),
    "min_p=0.1": (lambda s: samplers.min_p(s, 0.1), MinPLogitsWarper(0.1)),
    "min_p=1": (lambda s: samplers.min_p(s, 1.0), MinPLogitsWarper(1.0)),
}


def _rows():
    """Rows from nearly flat to nearly certain, some with the many ties that bfloat16 brings."""
    generator = torch.Generator().manual_seed(0)
    for size in (10, 320, 5000):
        for width in (0.01, 1.0, 3.0, 8.0):
            row = torch.randn(1, size, generator=generator) * width
            yield row
            yield row.bfloat16().float()


@pytest.mark.parametrize("name", PAIRS)
def test_a_filter_keeps_what_its_warper_keeps(name):
    """Among tokens that tie exactly at the boundary, which ones stay is left open by the sort of transformers."""
    ours, theirs = PAIRS[name]
    for row in _rows():
        kept, expected = ours(row), theirs(None, row)
        assert torch.equal(kept.sort().values, expected.sort().values), (name, row.shape)
        if len(row.unique()) == row.shape[-1]:
            assert torch.equal(kept, expected), (name, row.shape)


def test_a_filter_does_without_the_full_sort_where_the_likely_tokens_decide(monkeypatch):
    """What makes the filters quick; the shapes above go through both ways."""
    row = next(row for row in _rows() if row.shape[-1] == 5000 and row.std() > 2)
    expected = [TopPLogitsWarper(0.9)(None, row), TypicalLogitsWarper(0.9)(None, row)]
    monkeypatch.setattr(samplers, "TopPLogitsWarper", None)
    monkeypatch.setattr(samplers, "TypicalLogitsWarper", None)
    assert torch.equal(samplers.top_p(row, 0.9), expected[0])
    assert torch.equal(samplers.typical(row, 0.9), expected[1])


def test_a_draw_is_that_of_multinomial():
    for row in _rows():
        probabilities = row.softmax(-1)
        noise = samplers.Noise(11, torch.device("cpu"))
        torch.manual_seed(11)
        for _ in range(20):
            noise.next_step(row.shape[-1])
            assert noise.draw(probabilities) == torch.multinomial(probabilities, 1).item()


def test_a_draw_after_steps_without_one_is_that_of_its_step():
    probabilities = torch.ones(1, 320)
    noise, drawn = samplers.Noise(11, torch.device("cpu")), []
    torch.manual_seed(11)
    expected = [torch.multinomial(probabilities, 1).item() for _ in range(6)]
    for step in range(6):
        noise.next_step(320)
        drawn.append(noise.draw(probabilities) if step in (1, 4, 5) else expected[step])
    assert drawn == expected
    assert torch.equal(noise.row, noise.row)
