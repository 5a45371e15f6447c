"""The views below the board of a finished comparison: its figures, forks, curves, beam trees and processors."""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from core.errors import UserError
from core.words import say
from inference.compare.fair_queue import Turn
from inference.compare.record import record_of
from inference.events import Result
from inference.measures.summary import summarize, to_csv
from ui.compare import details_facts as facts
from ui.compare import replay_check
from ui.compare.last_comparison import comparisons
from ui.parts.controls import button, dropdown
from ui.parts.views import carrier, render, view
from ui.parts.wiring import NEWEST, SHOWN, by_name
from ui.web.handler import Caller, handler
from ui.web.language import words

SCRIPTS = ("sort_table.js", "seeing.js")
_downloads = itertools.count(1)


@dataclass
class DetailViews:
    """The components that a finished comparison fills; `show` returns their new values by these names."""

    box: gr.Column
    table: gr.HTML
    reference: gr.Dropdown
    forks: gr.HTML
    curves: gr.CheckboxGroup
    entropy: gr.LinePlot
    kept: gr.LinePlot
    column: gr.Dropdown
    part: gr.Dropdown
    tree: gr.HTML
    chain: gr.HTML
    verdicts: gr.HTML

    def follow(self, comparing: Any) -> None:
        """Show the result of an event of Compare, once it is over."""
        comparing.success(**by_name(compare_seen, None, vars(self)), api_name="compare_seen", **SHOWN)


def draw(shelf: Callable[[], Any], join: Callable[[Caller], Turn]) -> DetailViews:
    """Draw everything, hidden until there is something to see. A check takes its models from `shelf` and its turn by
    `join`."""
    with gr.Column(visible=False, elem_id="seeing") as box, gr.Tabs(overflow_behavior="wrap"):
        with gr.Tab(words("seeing.table"), elem_id="see-table"):
            table = _table()
        with gr.Tab(words("seeing.forks"), elem_id="see-forks"):
            reference = dropdown("seeing.reference", elem_id="fork-reference")
            forks = view(elem_id="forks")
        with gr.Tab(words("seeing.curves"), elem_id="see-curves"):
            curves = gr.CheckboxGroup(label=words("seeing.columns"), elem_id="curve-columns")
            with gr.Row():
                entropy, kept = _plot("entropy"), _plot("kept")
        with gr.Tab(words("seeing.tree"), elem_id="see-tree"):
            with gr.Row():
                column = dropdown("seeing.tree_column", scale=4, min_width=260, elem_id="tree-column")
                part = dropdown("seeing.part", scale=1, min_width=140, elem_id="tree-part")
            tree = view(scripts=SCRIPTS, elem_id="beam-tree")
        with gr.Tab(words("seeing.chain"), elem_id="see-chain"):
            chain = view(elem_id="chain")
        with gr.Tab(words("seeing.check"), elem_id="see-check"):
            verdicts = replay_check.draw(shelf, join)
    views = DetailViews(box, table, reference, forks, curves, entropy, kept, column, part, tree, chain, verdicts)
    _wire(views)
    return views


def _table() -> gr.HTML:
    table = view(scripts=SCRIPTS, elem_id="summary")
    with gr.Row(elem_classes="ts-chips"):
        rows = button("seeing.download_csv", size="sm", scale=0, min_width=120, elem_id="download-csv")
        whole = button("seeing.download_json", size="sm", scale=0, min_width=120, elem_id="download-json")
    file = carrier("download.js")
    rows.click(compare_csv, None, file, api_name="compare_csv", **SHOWN)
    whole.click(compare_json, None, file, api_name="compare_json", **SHOWN)
    return table


def _plot(name: str) -> gr.LinePlot:
    return gr.LinePlot(
        x="token",
        y="value",
        color="column",
        title=words(f"seeing.plot_{name}"),
        x_title=words("seeing.token"),
        y_title=words(f"seeing.axis_{name}"),
        color_title=" ",
        height=300,
        min_width=300,
        elem_id=f"plot-{name}",
        buttons=["fullscreen"],
    )


def _wire(views: DetailViews) -> None:
    """Wire the choices below the board. Every answer is made from this browser tab's last comparison."""
    views.reference.input(compare_forks, views.reference, views.forks, api_name="compare_forks", **NEWEST)
    plots = [views.entropy, views.kept]
    views.curves.input(compare_curves, views.curves, plots, api_name="compare_curves", **NEWEST)
    views.column.input(compare_tree, views.column, [views.part, views.tree], api_name="compare_tree", **NEWEST)
    which = [views.column, views.part]
    views.part.input(compare_tree_part, which, views.tree, api_name="compare_tree_part", **NEWEST)


@handler(open_to_anyone=True)
def compare_seen(caller: Caller) -> dict[str, Any]:
    """Show all views of this browser tab's last comparison; leave them as they are if it is not kept."""
    found = comparisons.find(caller)
    return {} if found is None else show(found.result)


def show(result: Result) -> dict[str, Any]:
    """Return new values for all components of `DetailViews`, by name."""
    drawn = facts.drawn_first(result)
    some, choices = len(result.columns) > 1, facts.choices(result)
    entropy, kept = _curves(result, drawn)
    column, part, tree = _first_tree(result)
    return {
        "box": gr.update(visible=True),
        "table": render("summary", **facts.table_view(result)),
        "reference": gr.update(choices=choices, value=0, visible=some),
        "forks": render("forks", **facts.fork_view(result, 0)) if some else _note("seeing.one_column"),
        "curves": gr.update(choices=choices, value=drawn, visible=some),
        "entropy": entropy,
        "kept": kept,
        "column": column,
        "part": part,
        "tree": tree,
        "chain": render("chain", **facts.chain_view(result)),
        "verdicts": "",
    }


def _note(key: str) -> str:
    return render("note", kind="", title="", text=say(key))


def _first_tree(result: Result) -> list:
    found = facts.trees(result)
    if not found:
        hidden = gr.update(choices=[], value=None, visible=False)
        return [hidden, hidden, _note("seeing.no_tree")]
    return [gr.update(choices=found, value=found[0][1], visible=True), *_tree(result, found[0][1])]


def _tree(result: Result, index: int) -> list:
    parts = facts.tree_parts(result.columns[index])
    tree = render("beam_tree", **facts.tree_view(result, index, 0))
    return [gr.update(choices=parts, value=0, visible=len(parts) > 1), tree]


def _curves(result: Result, chosen: Sequence[int]) -> list:
    colors = facts.colors(result)
    return [gr.update(value=facts.curves(result, chosen, kept), color_map=colors) for kept in (False, True)]


def _among(value: Any, known: Sequence[int]) -> int:
    """Return a choice if it is one of those offered: raw calls can name any. Raises UserError."""
    if isinstance(value, bool) or not isinstance(value, int) or value not in known:
        raise UserError("seeing.unknown_choice", value=str(value)[:40])
    return value


@handler(open_to_anyone=True)
def compare_forks(caller: Caller, reference: Any) -> str:
    """Show the forks from another reference."""
    result = comparisons.of(caller).result
    return render("forks", **facts.fork_view(result, _among(reference, range(len(result.columns)))))


@handler(open_to_anyone=True)
def compare_curves(caller: Caller, chosen: Any) -> list:
    """Show the curves of some columns."""
    result = comparisons.of(caller).result
    return _curves(result, [_among(index, range(len(result.columns))) for index in chosen or []])


@handler(open_to_anyone=True)
def compare_tree(caller: Caller, column: Any) -> list:
    """Show the beam tree of another column."""
    result = comparisons.of(caller).result
    return _tree(result, _among(column, [index for _, index in facts.trees(result)]))


@handler(open_to_anyone=True)
def compare_tree_part(caller: Caller, column: Any, part: Any) -> str:
    """Show another part of a large beam tree."""
    result = comparisons.of(caller).result
    index = _among(column, [index for _, index in facts.trees(result)])
    known = [number for _, number in facts.tree_parts(result.columns[index])]
    return render("beam_tree", **facts.tree_view(result, index, _among(part, known)))


@handler(open_to_anyone=True)
def compare_csv(caller: Caller) -> dict:
    """Download the table."""
    text = to_csv(summarize(comparisons.of(caller).result))
    return _file("comparison.csv", "text/csv;charset=utf-8", text)


@handler(open_to_anyone=True)
def compare_json(caller: Caller) -> dict:
    """Download the comparison: the record that the shell prints with `--json`, and reads with `--record`."""
    kept = comparisons.of(caller)
    text = json.dumps(record_of(kept.request, kept.result), ensure_ascii=False, indent=1)
    return _file("comparison.json", "application/json", text)


def _file(name: str, kind: str, text: str) -> dict:
    """Return a file that the browser itself saves, so that nothing of it is stored on this machine; numbered, since a
    value that does not change would not be sent."""
    return {"number": next(_downloads), "name": name, "kind": kind, "text": text}
