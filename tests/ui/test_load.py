"""Forty visitors on the page and eight comparing at once; `TUNESCOPE_SOAK_S` sets for how long (ten minutes)."""

import os

import pytest

from benchmarks import load

pytestmark = pytest.mark.soak


def test_forty_visitors_are_served_without_an_error_in_bounded_memory_and_as_the_queue_promises():
    figures = load.measure(float(os.environ.get("TUNESCOPE_SOAK_S", "600")))
    print(load.shown(figures))
    assert figures.errors == []
    assert figures.spread() <= 0.1
    assert figures.late() == []
    assert len(figures.comparisons) >= figures.comparing
