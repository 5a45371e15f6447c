"""Bootstrap intervals against cases that are known, and against a slow reference."""

import random

import pytest

from inference.measures.bootstrap import Estimate, estimate, paired, ratio


def test_two_values_reach_from_one_to_the_other():
    """A quarter of all resamples of {0, 1} are all 0 and a quarter all 1: the tails of 2.5 % lie there."""
    assert estimate([0.0, 1.0]) == Estimate(0.5, 0.0, 1.0, 2)


def test_equal_values_have_an_interval_without_width():
    assert estimate([3.5] * 7) == Estimate(3.5, 3.5, 3.5, 7)


def test_one_value_has_no_interval_and_none_no_estimate():
    assert estimate([2.0]) == Estimate(2.0, None, None, 1)
    assert estimate([]) is None


def test_many_coin_throws_have_the_interval_of_the_normal_law():
    found = estimate([0.0, 1.0] * 50)
    assert found.mean == 0.5
    assert found.low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.015)
    assert found.high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.015)


def test_it_agrees_with_a_slow_reference():
    values = [random.Random(3).gauss(0, 1) ** 3 for _ in range(40)]
    draw = random.Random(1)
    means = sorted(sum(draw.choices(values, k=40)) / 40 for _ in range(20_000))
    found = estimate(values)
    assert found.low == pytest.approx(means[500], abs=0.15)
    assert found.high == pytest.approx(means[19_500], abs=0.15)


def test_the_same_values_give_the_same_interval():
    assert estimate([1.0, 5.0, 2.0]) == estimate([1.0, 5.0, 2.0])


def test_differences_are_paired_by_prompt():
    """Each value is 1 above its partner: the difference is certain, however far the values lie apart."""
    assert paired([1.0, 101.0, None, 5.0], [0.0, 100.0, 7.0, None]) == Estimate(1.0, 1.0, 1.0, 2)
    assert paired([None], [1.0]) is None


@pytest.mark.parametrize(
    ("low", "high", "clear"), [(0.1, 2.0, True), (-2.0, -0.1, True), (-1.0, 1.0, False), (0.0, 1.0, False)]
)
def test_an_interval_is_clear_of_zero_or_not(low, high, clear):
    assert Estimate(0.0, low, high, 9).clear_of_zero is clear
    assert not Estimate(1.0, None, None, 1).clear_of_zero


def test_a_ratio_is_of_sums_and_draws_whole_rows():
    """Rows of one token and of 99: the mean over tokens, not over rows; its ends are all-short and all-long draws."""
    found = ratio([4.0, 99.0], [1.0, 99.0])
    assert found.mean == pytest.approx(103 / 100)
    assert (found.low, found.high, found.count) == (1.0, 4.0, 2)
    assert ratio([], []) is None and ratio([3.0], [2.0]) == Estimate(1.5, None, None, 1)


def test_two_series_over_the_same_rows_are_drawn_alike():
    """Rows differ a lot, the second is everywhere 0.1 a token lower: the paired difference knows that exactly."""
    draw = random.Random(5)
    counts = [float(draw.randint(1, 80)) for _ in range(30)]
    first = [draw.gauss(3, 2) * count for count in counts]
    second = [total - 0.1 * count for total, count in zip(first, counts, strict=True)]
    apart = ratio([b - a for a, b in zip(first, second, strict=True)], counts)
    assert apart.low == pytest.approx(-0.1) and apart.high == pytest.approx(-0.1)
    one, other = ratio(first, counts), ratio(second, counts)
    assert one.high - one.low > 0.2
    assert one.low - other.low == pytest.approx(0.1) and one.high - other.high == pytest.approx(0.1)


def test_the_interval_of_a_ratio_agrees_with_a_slow_reference():
    """Rows of very different lengths: each draw is a sum over a sum, not a mean of ratios."""
    draw = random.Random(7)
    counts = [float(draw.choice([1, 10, 200])) for _ in range(40)]
    totals = [draw.gauss(2, 1) * count for count in counts]
    found, drawn = ratio(totals, counts), []
    for _ in range(20_000):
        rows = draw.choices(range(40), k=40)
        drawn.append(sum(totals[row] for row in rows) / sum(counts[row] for row in rows))
    drawn.sort()
    assert found.low == pytest.approx(drawn[500], abs=0.03) and found.high == pytest.approx(drawn[19_500], abs=0.03)
