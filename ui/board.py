"""The board of Compare as data: what its cards can be, what they ask for, what is sent to them while it runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from core.errors import UserError
from core.words import say
from inference.strategies import MAX_COLUMNS, STRATEGIES
from ui.language import words
from ui.views import number

STATIC = Path(__file__).parent / "static"
WORDS = (
    "add", "presets", "as_tokens", "as_tokens_help", "strategy", "model", "duplicate", "remove", "other_model",
    "other_hint", "no_settings", "hint",
)  # fmt: skip
PRESETS: dict[str, list[str]] = {
    "four": ["greedy", "beam", "nucleus", "min_p"],
    "all": list(STRATEGIES),
    "beside": ["greedy", "greedy model=base", "nucleus temperature=0.8", "nucleus temperature=0.8 model=base"],
    "heat": [f"sample temperature={heat}" for heat in (0.3, 0.7, 1.0, 1.5)],
    "widths": [f"beam num_beams={beams}" for beams in (2, 4, 8)],
}


def draw() -> tuple[gr.HTML, gr.HTML]:
    """The board, whose value is its columns, and the feed that carries updates to it."""
    board = gr.HTML(
        {"columns": columns_of(PRESETS["four"])},
        html_template='<div class="ts-board"></div>',
        js_on_load=(STATIC / "board.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_classes=["ts"],
        elem_id="board",
        words={name: words(f"page.board_{name}") for name in WORDS},
        strategies=[_strategy(key) for key in STRATEGIES],
        presets=[
            {"key": key, "title": words(f"page.preset_{key}"), "columns": columns_of(lines)}
            for key, lines in PRESETS.items()
        ],
        models=[["", words("page.model_above")], ["base", words("page.its_base")]],
        most=MAX_COLUMNS,
    )
    feed = gr.HTML(
        None,
        html_template='<span class="ts-hidden"></span>',
        js_on_load=(STATIC / "feed.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_classes=["ts"],
        elem_id="feed",
    )
    return board, feed


def _strategy(key: str) -> dict[str, Any]:
    strategy = STRATEGIES[key]
    knobs = [
        {
            "name": knob.name,
            "type": knob.type,
            "default": str(knob.default).lower() if knob.choices else knob.default,
            "minimum": knob.minimum,
            "maximum": knob.maximum,
            "choices": list(knob.choices),
            "help": words(knob.help_key),
        }
        for knob in strategy.knobs
    ]
    return {"key": key, "title": words(strategy.title_key), "about": words(strategy.help_key), "knobs": knobs}


def columns_of(lines: Sequence[str]) -> list[dict[str, Any]]:
    """Lines such as `nucleus top_p=0.9 model=base` as the board's columns."""
    columns = []
    for line in lines:
        strategy, *rest = line.split()
        knobs = dict(word.split("=", 1) for word in rest)
        columns.append({"strategy": strategy, "model": knobs.pop("model", ""), "knobs": knobs})
    return columns


def lines_of(value: Any) -> list[str]:
    """The board's columns as lines, which `parse_column` checks. Raises UserError for what is no board."""
    columns = value.get("columns") if isinstance(value, dict) else None
    if not isinstance(columns, list) or not all(isinstance(column, dict) for column in columns):
        raise UserError("page.no_board")
    return [_line(column) for column in columns]


def _line(column: dict[str, Any]) -> str:
    knobs = column.get("knobs")
    pairs = list(knobs.items()) if isinstance(knobs, dict) else []
    if column.get("model"):
        pairs.append(("model", column["model"]))
    words_of = [str(column.get("strategy", "")), *(f"{name}={value}" for name, value in pairs)]
    if any(len(word.split()) != 1 for word in words_of):
        raise UserError("page.column_spaces", value=" ".join(words_of)[:80])
    return " ".join(words_of)


def update(run: int, columns: Sequence[Any], *, final: bool = False) -> dict[str, Any]:
    """What the board shows now; the tokens' probabilities are sent once, at the end."""
    return {"run": run, "columns": [_column(column, final) for column in columns]}


def _column(column: Any, final: bool) -> dict[str, Any]:
    result = column.result
    shown: dict[str, Any] = {
        "firm": column.firm if result is None else result.text,
        "draft": column.draft if result is None else "",
        "writing": result is None and not final,
        "figures": [] if result is None else figures(result),
        "error": result.error if result is not None else None,
    }
    if final and result is not None:
        shown["tokens"] = [[token.text, round(token.probability, 4), _top(token.top)] for token in result.tokens]
    return shown


def _top(top: Sequence[Any]) -> list[list]:
    return [[one.text, round(one.probability, 4)] for one in top]


def figures(result: Any) -> list[list[str]]:
    """What stands under a column."""
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
