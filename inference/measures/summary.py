"""The table under a comparison: the measures of each column, each with its formula and source.

BLEU is computed on token ids, not words: it needs no tokenizer of its own and works alike for all languages.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import UserError
from inference.events import ColumnResult, Result
from inference.measures.metrics import distinct, perplexity, repetition
from inference.measures.self_bleu import self_bleu
from inference.strategies.table import ColumnSpec, parse_column

Row = dict[str, float | int | str | None]
_SMALLEST = 5e-324
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Measure:
    """A measure of a column: `title_key` is the key of its name for people, `digits` are the decimals worth showing."""

    key: str
    title_key: str
    formula: str
    source: str
    digits: int


def _measure(key: str, digits: int, formula: str, source: str) -> Measure:
    return Measure(key, f"measure.{key}", formula, source, digits)


MEASURES: tuple[Measure, ...] = (
    _measure("log_prob", 2, "Σ ln p(xₜ | x₍<ₜ₎), T = 1", "Wu et al. 2016, arXiv:1609.08144"),
    _measure("mean_log_prob", 3, "1/n Σ ln p(xₜ | x₍<ₜ₎), T = 1", "Jelinek et al. 1977"),
    _measure("perplexity", 3, "exp(−1/n Σ ln p(xₜ | x₍<ₜ₎)), T = 1", "Jelinek et al. 1977"),
    _measure("tokens", 0, "n", ""),
    _measure("distinct_1", 3, "|{1-gram}| / #1-gram", "Li et al. 2016, arXiv:1510.03055"),
    _measure("distinct_2", 3, "|{2-gram}| / #2-gram", "Li et al. 2016, arXiv:1510.03055"),
    _measure("distinct_3", 3, "|{3-gram}| / #3-gram", "Li et al. 2016, arXiv:1510.03055"),
    _measure("rep_4", 3, "1 − |{4-gram}| / #4-gram", "Welleck et al. 2020, arXiv:1908.04319"),
    _measure("diversity", 3, "∏ₙ₌₂…₄ (1 − rep-n)", "Su et al. 2022, arXiv:2202.06417"),
    _measure("self_bleu", 3, "1/m Σᵢ BLEU-4(xᵢ; {xⱼ : j ≠ i})", "Zhu et al. 2018, arXiv:1802.01886"),
    _measure("agreement", 3, "#{t : xₜ = gₜ} / max(|x|, |g|), g: greedy", ""),
    _measure("row_forwards", 0, "Σ rows", ""),
    _measure("first_token_s", 3, "t₁ − t₀", ""),
)


def summarize(result: Result) -> list[Row]:
    """Return one row per column: its name, its model and every measure, None if it does not apply.

    Measures of tokens count all generated ones, the end token included. `self_bleu` (0 to 1, lower is more varied) is
    shared by the columns of one model that differ only in `seed=`; `agreement` (0 to 1) is with the column `greedy` of
    the same model without other knobs.
    """
    alike, greedy = _alike(result.columns), _greedy(result.columns)
    return [_row(column, alike.get(index), greedy.get(column.model)) for index, column in enumerate(result.columns)]


def _row(column: ColumnResult, self_bleu: float | None, greedy: ColumnResult | None) -> Row:
    ids = column.token_ids
    measured: Row = dict.fromkeys(measure.key for measure in MEASURES)
    if ids:
        measured |= _likelihood(column) | {f"distinct_{n}": distinct(ids, n) for n in (1, 2, 3)}
        measured["rep_4"] = repetition(ids)
        measured["diversity"] = diversity(ids)
        measured["self_bleu"] = self_bleu
        measured["agreement"] = agreement(ids, greedy.token_ids) if greedy else None
    measured |= {"tokens": len(ids), "row_forwards": column.row_forwards}
    measured["first_token_s"] = column.metrics.get("first_token_s")
    return {"name": column.name, "model": column.model, **measured}


def _likelihood(column: ColumnResult) -> Row:
    """Return the likelihood measures under the column's own model, temperature 1, before any processor; only the
    perplexity if its tokens were not kept."""
    if not column.tokens:
        return {"perplexity": column.metrics.get("perplexity")}
    logprobs = [math.log(max(token.probability, _SMALLEST)) for token in column.tokens]
    total = math.fsum(logprobs)
    return {"log_prob": total, "mean_log_prob": total / len(logprobs), "perplexity": perplexity(logprobs)}


def diversity(tokens: Sequence[int]) -> float:
    """Return the product over n = 2, 3, 4 of 1 - rep-n, from 0 to 1 (Su et al. 2022)."""
    return math.prod(distinct(tokens, n) for n in (2, 3, 4))


def agreement(tokens: Sequence[int], others: Sequence[int]) -> float:
    """Return the share of positions with the same token in both, over the length of the longer; 1 for two empty
    ones."""
    longest = max(len(tokens), len(others))
    equal = sum(mine == theirs for mine, theirs in zip(tokens, others, strict=False))
    return equal / longest if longest else 1.0


def _alike(columns: Sequence[ColumnResult]) -> dict[int, float | None]:
    """Return, by index, the self-BLEU of each column that has others which differ only in the seed."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, column in enumerate(columns):
        spec = _spec(column)
        if spec is not None and column.token_ids:
            knobs = tuple(sorted((name, str(value)) for name, value in spec.knobs.items() if name != "seed"))
            groups.setdefault((column.model, spec.strategy, knobs), []).append(index)
    return {
        index: value
        for indices in groups.values()
        if (value := self_bleu([columns[index].token_ids for index in indices])) is not None
        for index in indices
    }


def _greedy(columns: Sequence[ColumnResult]) -> dict[str, ColumnResult]:
    """Return the first plain greedy column of each model."""
    found: dict[str, ColumnResult] = {}
    for column in columns:
        spec = _spec(column)
        if spec is not None and spec.strategy == "greedy" and not spec.knobs and column.token_ids:
            found.setdefault(column.model, column)
    return found


def _spec(column: ColumnResult) -> ColumnSpec | None:
    try:
        return parse_column(column.name)
    except UserError:
        return None


def to_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Return the rows as CSV with a header of their keys; None is an empty cell.

    A text that a spreadsheet would take for a formula gets an apostrophe before it: prompts come from anybody.
    """
    header = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(map(_cell, header))
    writer.writerows(map(_cell, (row.get(name) for name in header)) for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_SIGNS) else value
