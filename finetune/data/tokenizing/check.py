"""Findings about a dataset that need a model's tokenizer: rows too long, or refused by its chat template."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from core.rows import PreferenceRow, Row
from finetune.config.blocks import Pretrain, Sft, Stage
from finetune.data.findings import RULES, DataFinding
from finetune.data.store import Dataset, texts_of
from finetune.data.tokenizing.chat_template import special_pattern
from finetune.data.tokenizing.encode_stage import answered
from finetune.data.tokenizing.tokenize import Encoded, encode_all


def data_findings(
    dataset: Dataset, tokenizer: Any, max_length: int, limit: int | None = None, stage: Stage | None = None
) -> list[DataFinding]:
    """Return the findings of the first `limit` rows (all by default) for what a stage learns, by row number in the
    file.

    Errors, skipped in training: `template` (refused by the chat template), `nothing_learned` (no answer is left after
    truncation). Warnings: `too_long` (truncated), `control_tokens` (the text contains special tokens of the model).
    Raises UserError for kinds that are not trained this way.
    """
    rows, numbers = dataset.rows(limit), dataset.numbers(limit)
    return model_findings(rows, _encoded(rows, tokenizer, max_length, stage), numbers, tokenizer, max_length)


def _encoded(rows: Sequence[Row], tokenizer: Any, max_length: int, stage: Stage | None) -> list[Encoded]:
    """Encode what is learned of each row; of the two answers of a preference row, return the one with the worse
    problem."""
    if stage is not None and isinstance(stage.settings, Pretrain):
        return encode_all(rows, tokenizer, 2**40)
    learn = stage.settings.learn if stage is not None and isinstance(stage.settings, Sft) else "answers"
    if not any(isinstance(row, PreferenceRow) for row in rows):
        return encode_all(rows, tokenizer, max_length, learn)
    pairs = [row for row in rows if isinstance(row, PreferenceRow)]
    sides = [
        encode_all([answered(row, side) for row in pairs], tokenizer, max_length, "last-answer")
        for side in ("chosen", "rejected")
    ]
    return [
        max(both, key=lambda side: (bool(side.problem), not side.learns, side.total))
        for both in zip(*sides, strict=True)
    ]


def model_findings(
    rows: Sequence[Row], encoded: Sequence[Encoded], numbers: Sequence[int], tokenizer: Any, max_length: int
) -> list[DataFinding]:
    """Return the same findings as `data_findings`, for rows that are already encoded."""
    special = special_pattern(tokenizer)
    found: defaultdict[str, list[int]] = defaultdict(list)
    for row, tokens, number in zip(rows, encoded, numbers, strict=True):
        for rule in _rules(tokens):
            found[rule].append(number)
        if any(special.search(text) for text in texts_of(row)):
            found["control_tokens"].append(number)
    facts = {
        "max_length": max_length,
        "longest": max((tokens.total for tokens in encoded), default=0),
        "reason": next((tokens.problem for tokens in encoded if tokens.problem), ""),
    }
    return [DataFinding(rule, RULES[rule], found[rule], facts) for rule in RULES if found[rule]]


def _rules(encoded: Encoded) -> list[str]:
    if encoded.problem:
        return ["template"]
    if not encoded.learns:
        return ["nothing_learned"]
    return ["too_long"] if encoded.truncated else []
