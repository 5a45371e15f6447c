"""Updates of the board of Compare while its columns are written, and once they are done.

An update has each column's text so far; Gradio sends only the difference to the update before ("append" with the new
piece). The tokens' details are sent once, at the end, packed into a text that the browser unpacks when somebody opens
them.
"""

import json
from collections.abc import Sequence
from typing import Any

from core.words import say
from inference.events import TokenView, Trace
from inference.strategies.syntax import split_line
from ui.parts.views import number

_SHOWN = 0.0005
"""Alternatives that were less likely than this before and after the processors are not sent."""


def update(run: int, columns: Sequence[Any], *, final: bool = False) -> dict[str, Any]:
    """Return what the board shows now."""
    return {"run": run, "columns": [_column(column, final) for column in columns]}


def _column(column: Any, final: bool) -> dict[str, Any]:
    result = column.result
    return {
        "firm": column.firm if result is None else result.text,
        "draft": column.draft if result is None else "",
        "writing": result is None and not final,
        "figures": [] if result is None else figures(result),
        "notes": _now(column) if result is None else notes(result.trace),
        "others": [] if result is None else others(result.trace),
        "groups": result is not None and result.name.startswith("diverse_beam"),
        "error": result.error if result is not None else None,
    }


def over(run: int) -> dict[str, Any]:
    """Return the update for a comparison that ended with an error: the cards keep their text, and none is writing any
    more."""
    return {"run": run, "columns": [], "over": True}


def _now(column: Any) -> list[str]:
    """Return the current width of a beam whose width changes and the row-forwards saved so far, while it is written."""
    dynamic = column.rows and split_line(column.name)[0] == "dynamic_beam"
    return [say("board.width_now", now=column.rows, saved=column.saved)] if dynamic else []


def details(run: int, columns: Sequence[Any]) -> dict[str, Any]:
    """Return the tokens of all columns, each column's packed into one text."""
    return {"run": run, "packed": [packed(column.result.tokens) if column.result else "" for column in columns]}


def packed(tokens: Sequence[TokenView]) -> str:
    """Return JSON: `pieces` has the text of each token id; `tokens` has, for each token, its id, probability, rank,
    entropy in nats, probability after the processors, number of tokens kept, and its alternatives' ids, probabilities
    and probabilities after (the last: null if there are no processors); for a part of a character also the text that it
    adds."""
    pieces = {token.token_id: token.text for token in tokens}
    rows = []
    for token in tokens:
        top = [option for option in token.top if max(option.probability, option.after or 0) >= _SHOWN]
        pieces.update((option.token_id, option.text) for option in top)
        after = [_short(option.after) for option in top] if top and top[0].after is not None else None
        rows.append([
            token.token_id, _short(token.probability), token.rank, _short(token.entropy), _short(token.after),
            token.kept, [option.token_id for option in top], [_short(option.probability) for option in top], after,
            *([] if token.adds is None else [token.adds]),
        ])  # fmt: skip
    return json.dumps({"pieces": pieces, "tokens": rows}, ensure_ascii=False, separators=(",", ":"))


def _short(value: float | None) -> float | int | None:
    """Round to four significant digits; whole numbers without a point."""
    if value is None:
        return None
    short = float(f"{value:.4g}")
    return int(short) if short.is_integer() else short


def notes(trace: Trace) -> list[str]:
    """Return notes on how a column was generated."""
    return [*([_width(trace, *trace.row_forwards)] if trace.row_forwards else []), *trace.notes]


def _width(trace: Trace, used: int, fixed: int) -> str:
    """Return a note that compares the rows of a beam whose width changes with those of a fixed one."""
    facts = {"now": trace.widths[-1], "least": min(trace.widths), "most": max(trace.widths)}
    return say("board.width", used=used, saved=max(0, fixed - used), fixed=fixed, **facts)


def others(trace: Trace) -> list[list[str]]:
    """Return the hypotheses other than the result: score and text."""
    return [[number(score, 2), text] for (score, _), text in zip(trace.others, trace.other_texts, strict=True)]


def figures(result: Any) -> list[list[str]]:
    """Return the figures shown under a column."""
    metrics = result.metrics
    first = metrics.get("first_token_s")
    return [
        [number(metrics.get("tokens")), say("page.figure_tokens")],
        [say(f"decode.finish.{result.finish}"), say("page.figure_finish")],
        [number(metrics.get("perplexity"), 2), say("page.figure_perplexity")],
        [number(metrics.get("distinct_2"), 2), say("page.figure_distinct_2")],
        [number(metrics.get("repetition"), 2), say("page.figure_repetition")],
        ["–" if first is None else f"{first:.2f} s", say("page.figure_first_token_s")],
        [number(metrics.get("tokens_per_s"), 1), say("page.figure_tokens_per_s")],
    ]
