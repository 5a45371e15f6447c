"""The cache of the lean forward: rows are what a plain list of rows would be, however they fork, move and go back."""

import random

import pytest
import torch

from inference.engine.kv_cache import LeanCache

LAYERS, HEADS, SIZE, TOKENS = 2, 3, 4, 40


class Rows:
    """A cache beside a plain list of what each place holds at each position."""

    def __init__(self, most):
        self.cache = LeanCache(LAYERS, HEADS, SIZE, torch.empty(0), most, TOKENS)
        self.plain = [[]]
        self.copied = 0
        self.next = 0

    def write(self, positions):
        self.cache.extend(positions)
        found = [[self._new() for _ in range(positions)] for _ in self.plain]
        for layer in range(LAYERS):
            keys, values, before = self.cache.layer(layer, len(self.plain))
            for row, numbers in enumerate(found):
                for place, number in enumerate(numbers):
                    keys[row, :, before + place] = number + layer
                    values[row, :, before + place] = -number - layer
        for row, numbers in zip(self.plain, found, strict=True):
            row += numbers

    def _new(self):
        self.next += 10
        return self.next

    def copy(self, pairs, rows):
        self.cache.copy(pairs)
        sources = dict.fromkeys(range(rows)) | {place: source for source, place in pairs}
        self.plain = [list(self.plain[place if source is None else source]) for place, source in sources.items()]

    def go_back(self, positions):
        self.cache.go_back(positions)
        self.plain = [row[: len(row) - positions] for row in self.plain]

    def check(self):
        for layer in range(LAYERS):
            keys, values, _ = self.cache.layer(layer, len(self.plain))
            for row, numbers in enumerate(self.plain):
                expected = torch.tensor(numbers, dtype=torch.float32) + layer
                assert torch.equal(keys[row, 0], expected[:, None].expand(-1, SIZE))
                assert torch.equal(values[row, HEADS - 1], -expected[:, None].expand(-1, SIZE))


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_what_a_plain_list_holds(seed):
    chance = random.Random(seed)
    rows = Rows(6)
    rows.write(3)
    for _ in range(25):
        count = len(rows.plain)
        wanted = chance.randint(max(1, count - 1), 6) if chance.random() < 0.5 else count
        new = [place for place in range(wanted) if place >= count or chance.random() < 0.4]
        sources = [place for place in range(count) if place not in new]
        if sources:
            rows.copy([(chance.choice(sources), place) for place in new], wanted)
        if chance.random() < 0.3 and rows.cache.length > 4:
            rows.go_back(chance.randint(1, 3))
        if rows.cache.length < TOKENS:
            rows.write(1)
        rows.check()


def test_what_two_hypotheses_have_in_common_is_not_copied(monkeypatch):
    rows = Rows(3)
    rows.write(8)
    rows.copy([(0, 1), (0, 2)], 3)
    rows.write(2)
    sizes = []
    copy_ = torch.Tensor.copy_
    monkeypatch.setattr(torch.Tensor, "copy_", lambda to, other: sizes.append(to.shape[-2]) or copy_(to, other))
    rows.copy([(2, 1)], 3)
    rows.write(1)
    rows.copy([(2, 1)], 3)
    rows.copy([(2, 0)], 3)
    assert sizes == [2, 1, 3]
    rows.check()
