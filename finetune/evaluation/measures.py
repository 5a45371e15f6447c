"""The measures of each kind of row, and their values for two models on the same rows.

All of them are arithmetic on the losses that `row_losses` computes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from core.rows import ChatRow, PreferenceRow, Row
from inference.measures.bootstrap import Estimate, estimate, ratio

FEWEST = 6
"""With five rows, even if all favor one side, the sign test is not significant at 5 % (2 / 2^5)."""

Losses = Sequence[Sequence[float]]
Counts = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Values:
    """One measure of every row: a total and the count it is divided by. The sum of the totals over the sum of the
    counts is the value for all rows: loss over tokens, correct rows over rows."""

    totals: list[float]
    counts: list[float]


@dataclass(frozen=True)
class RowMeasure:
    """A measure. `values` computes it from the losses and the token counts of each side's rows."""

    key: str
    lower_is_better: bool
    values: Callable[[Losses, Counts], Values]


@dataclass(frozen=True)
class RowKind:
    """The texts of a row whose loss is computed (its sides; the first is what is learned), and the measures of such
    rows."""

    sides: tuple[Callable[[Any], Row], ...]
    measures: tuple[RowMeasure, ...]


def _loss(losses: Losses, counts: Counts) -> Values:
    """Return the loss of what is learned, in nats per token."""
    return Values(list(losses[0]), [float(count) for count in counts[0]])


def _margins(losses: Losses) -> list[float]:
    """Return by how much each row's chosen answer is likelier than its rejected one, in nats."""
    return [worse - better for better, worse in zip(losses[0], losses[1], strict=True)]


def _accuracy(losses: Losses, counts: Counts) -> Values:
    margins = _margins(losses)
    return Values([float(margin > 0) for margin in margins], [1.0] * len(margins))


def _margin(losses: Losses, counts: Counts) -> Values:
    margins = _margins(losses)
    return Values(margins, [1.0] * len(margins))


def _itself(row: Row) -> Row:
    return row


def _chosen(row: PreferenceRow) -> Row:
    return ChatRow(messages=[*row.prompt, *row.chosen])


def _rejected(row: PreferenceRow) -> Row:
    return ChatRow(messages=[*row.prompt, *row.rejected])


LOSS = RowMeasure("loss", True, _loss)
ACCURACY = RowMeasure("preference_accuracy", False, _accuracy)
MARGIN = RowMeasure("preference_margin", False, _margin)

PLAIN = RowKind((_itself,), (LOSS,))
KINDS: dict[str, RowKind] = {
    "chat": PLAIN,
    "text": PLAIN,
    "pair": PLAIN,
    "preference": RowKind((_chosen, _rejected), (LOSS, ACCURACY, MARGIN)),
}
"""By the kind of a dataset's rows (`core.rows.KINDS`)."""


def compared(measure: RowMeasure, base: Losses, tuned: Losses, counts: Counts) -> dict[str, Any]:
    """Return one measure of both models on the same rows, with 95 % intervals and the paired difference tuned - base.

    `by_row` gives every row the same weight, however many tokens it has.
    """
    first, second = measure.values(base, counts), measure.values(tuned, counts)
    difference = ratio(_subtract(second.totals, first.totals), first.counts)
    rows = [_means(first), _means(second)]
    return {
        "key": measure.key,
        "base": _json(ratio(first.totals, first.counts)),
        "tuned": _json(ratio(second.totals, second.counts)),
        "difference": _json(difference),
        "by_row": {
            "base": _json(estimate(rows[0])),
            "tuned": _json(estimate(rows[1])),
            "difference": _json(estimate(_subtract(rows[1], rows[0]))),
        },
        "verdict": verdict(difference, measure.lower_is_better),
    }


def verdict(difference: Estimate | None, lower_is_better: bool) -> str:
    """Return the verdict on a paired difference: "better", "worse", "even" where its interval contains 0, "few" for
    fewer than six rows."""
    if difference is None or difference.count < FEWEST:
        return "few"
    if not difference.clear_of_zero:
        return "even"
    return "better" if (difference.mean < 0) == lower_is_better else "worse"


def _subtract(values: Sequence[float], others: Sequence[float]) -> list[float]:
    return [value - other for value, other in zip(values, others, strict=True)]


def _means(values: Values) -> list[float]:
    return [total / count for total, count in zip(values.totals, values.counts, strict=True)]


def _json(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else found.to_json()
