"""The metrics of a column. All are computed from its tokens and their raw probabilities."""

import math
from collections.abc import Sequence


def perplexity(logprobs: Sequence[float]) -> float | None:
    """Return exp of the mean of -ln p over the tokens, p under the column's own model at temperature 1 before any
    filter.

    None without tokens (Jelinek 1977).
    """
    return math.exp(min(-math.fsum(logprobs) / len(logprobs), 700.0)) if logprobs else None


def distinct(tokens: Sequence[int], n: int) -> float:
    """Return unique n-grams of tokens / n-grams; 1 if there is none (Li et al. 2016)."""
    grams = list(zip(*(tokens[start:] for start in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else 1.0


def repetition(tokens: Sequence[int]) -> float:
    """Return rep-4 from 0 to 1: the share of the 4-grams of tokens that occurred before (Welleck et al. 2020)."""
    return 1.0 - distinct(tokens, 4)


def column_metrics(
    tokens: Sequence[int], logprobs: Sequence[float], first_token_s: float | None, tokens_per_s: float
) -> dict[str, float | int | None]:
    """Return the metrics under a column, rounded for people. `tokens_per_s` is that of the whole batch the column ran
    in."""
    return {
        "tokens": len(tokens),
        "perplexity": _rounded(perplexity(logprobs)),
        "distinct_2": _rounded(distinct(tokens, 2)),
        "repetition": _rounded(repetition(tokens)),
        "first_token_s": _rounded(first_token_s),
        "tokens_per_s": _rounded(tokens_per_s),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
