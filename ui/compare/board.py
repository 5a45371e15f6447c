"""The board of Compare as data: strategies, settings and presets of its cards, and the columns they describe."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from core.errors import UserError
from inference.strategies.knobs import Knob
from inference.strategies.syntax import WHITE, join_line, split_line
from inference.strategies.table import MAX_COLUMNS, STRATEGIES, Strategy
from ui.parts.views import carrier, script
from ui.web.language import words

SCRIPTS = ("board_frame.js", "board_output.js", "board_cards.js", "board.js")
WORDS = (
    "add", "presets", "back", "authors", "authors_help", "strategy", "model", "duplicate", "remove", "other_model",
    "other_hint", "no_settings", "hint", "more", "not_set", "texts_hint", "ids_hint", "source", "view", "view_help",
    "view_text", "view_probability", "view_rank", "view_entropy", "view_surprise", "bits", "before", "after", "cut",
    "kept", "rank", "menu", "menu_full", "from", "from_ids", "not_written", "run", "sweep",
    "sweep_about", "sweep_knob", "sweep_low", "sweep_high", "sweep_count", "sweep_scale", "sweep_linear", "sweep_log",
    "sweep_list", "sweep_list_hint", "sweep_go", "close", "others", "group_best", "score", "by_authors", "part",
)  # fmt: skip
FIGURES = ("tokens", "finish", "perplexity", "distinct_2", "repetition", "first_token_s", "tokens_per_s")
FAMILIES = {
    "greedy": "deterministic", "lookup": "deterministic", "sample": "draws", "beam": "beams", "diverse_beam": "beams",
    "dynamic_beam": "beams", "contrastive": "contrast", "contrast": "contrast", "dola": "contrast",
}  # fmt: skip
"""The family of each kind of column, in the order in which the families are offered."""
PRESETS: dict[str, list[str]] = {
    "four": ["greedy", "beam", "nucleus", "min_p"],
    "tour": [
        "greedy", "beam", "diverse_beam", "dynamic_beam", "sample", "nucleus", "min_p", "mirostat", "dry",
        "contrastive", "dola", "lookup",
    ],
    "truncation": [
        "sample", "top_k", "nucleus", "min_p", "typical", "epsilon", "eta", "top_h", "top_n_sigma", "mirostat",
    ],
    "beams": ["greedy", "beam", "beam_sample", "diverse_beam", "dynamic_beam"],
    "repetition": [
        "greedy", "greedy repetition_penalty=1.2", "greedy no_repeat_ngram_size=3", "greedy presence_penalty=1",
        "greedy frequency_penalty=0.5", "dry temperature=0.7", "contrastive",
    ],
    "contrasts": ["greedy", "contrastive", "dola", "dola layers=low"],
    "order": [
        "nucleus top_p=0.8 temperature=1.5", "nucleus top_p=0.8 temperature=1.5 temperature_last=true",
        "min_p temperature=1.5", "min_p temperature=1.5 temperature_last=true",
    ],
    "beside": ["greedy", "greedy model=base", "nucleus temperature=0.8", "nucleus temperature=0.8 model=base"],
    "added": ["greedy", "greedy model=base", "contrast"],
    "heat": [f"sample temperature={heat}" for heat in (0.3, 0.7, 1.0, 1.5)],
    "widths": [f"beam num_beams={beams}" for beams in (2, 4, 8)],
}  # fmt: skip


def draw() -> tuple[gr.HTML, list[gr.HTML]]:
    """Draw the board, whose value is its columns, and the components that feed it: updates, tokens, answers."""
    board = gr.HTML(
        {"columns": columns_of(PRESETS["four"])},
        html_template='<div class="ts-board"></div>',
        js_on_load=script(*SCRIPTS),
        apply_default_css=False,
        elem_classes=["ts"],
        elem_id="board",
        words={name: words(f"board.{name}") for name in WORDS},
        families=[[family, words(f"board.family_{family}")] for family in dict.fromkeys(FAMILIES.values())],
        strategies=[_strategy(strategy) for strategy in STRATEGIES.values()],
        presets=[
            {"key": key, "title": words(f"board.preset_{key}"), "columns": columns_of(lines)}
            for key, lines in PRESETS.items()
        ],
        figures=[words(f"page.figure_{name}") for name in FIGURES],
        models=[["", words("page.model_above")], ["base", words("page.its_base")]],
        most=MAX_COLUMNS,
    )
    return board, [feed(name) for name in ("updates", "tokens", "answers")]


def feed(name: str) -> gr.HTML:
    """Make a component that hands its value on to the board. Each kind of update has its own, so that none replaces
    another before the page has read it."""
    return carrier("feed.js", elem_id=f"feed-{name}", feed=name)


def _strategy(strategy: Strategy) -> dict[str, Any]:
    return {
        "key": strategy.key,
        "family": FAMILIES[strategy.kind],
        "title": words(strategy.title_key),
        "about": words(strategy.help_key),
        "source": strategy.source,
        "knobs": [_knob(knob) for knob in strategy.knobs],
        "more": [_knob(knob) for knob in strategy.more],
    }


def _knob(knob: Knob) -> dict[str, Any]:
    return {
        "name": knob.name,
        "type": knob.type,
        "group": words(f"board.group_{_group(knob)}"),
        "default": str(knob.default).lower() if knob.choices else knob.default,
        "minimum": knob.minimum,
        "maximum": knob.maximum,
        "step": _step(knob),
        "choices": list(knob.choices),
        "help": words(knob.help_key),
    }


def _group(knob: Knob) -> str:
    """Return the heading for a setting that any column takes."""
    if knob.type in ("texts", "ids"):
        return "texts"
    if knob.name in ("temperature", "temperature_last", "seed"):
        return "draw"
    return "penalties" if "penalty" in knob.name or "ngram" in knob.name or "dry" in knob.name else "filters"


def _step(knob: Knob) -> float:
    """Return the step of the arrow keys: 1 for whole numbers, else finer the smaller the setting is."""
    if knob.type == "int":
        return 1
    if isinstance(knob.default, float) and 0 < knob.default < 0.01:
        return 0.0001
    return 0.001 if "cutoff" in knob.name else 0.05 if knob.maximum <= 1 else 0.1


def columns_of(lines: Sequence[str]) -> list[dict[str, Any]]:
    """Convert lines such as `nucleus top_p=0.9 model=base` to the board's columns."""
    columns = []
    for line in lines:
        strategy, *rest = split_line(line)
        knobs = dict(word.split("=", 1) for word in rest)
        columns.append({"strategy": strategy, "model": knobs.pop("model", ""), "knobs": knobs})
    return columns


def lines_of(value: Any) -> list[str]:
    """Convert the board's columns to lines, which `parse_column` checks. Raises UserError for a value that is not a
    board."""
    columns = value.get("columns") if isinstance(value, dict) else None
    if not isinstance(columns, list) or not all(isinstance(column, dict) for column in columns):
        raise UserError("page.no_board")
    return [_line(column) for column in columns]


def _line(column: dict[str, Any]) -> str:
    """Return a card's line; empty settings are left out."""
    knobs = column.get("knobs")
    pairs = [(str(name), str(value)) for name, value in knobs.items()] if isinstance(knobs, dict) else []
    pairs.append(("model", str(column.get("model") or "").strip()))
    strategy = str(column.get("strategy", ""))
    if not all(_plain(word) for word in (strategy, *(name for name, _ in pairs))):
        raise UserError("board.column_name", value=strategy[:80])
    return join_line(strategy, [(name, value) for name, value in pairs if value])


def _plain(word: str) -> bool:
    return bool(word) and not set(word) & set(WHITE + '"=')
