"""The board of Compare on a page without a server: its own scripts, settings and styles, and what a test shows it.

What a card asks the server for is answered by the same function as there.
"""

import json
from pathlib import Path

import gradio as gr

from core.words import speaking
from core.workspace import Owner
from ui.compare import board
from ui.compare import request as compare_request

UI = Path(__file__).parents[2] / "ui"
PAGE = """<!doctype html><html><head><meta charset="utf-8"><style>%s</style></head>
<body class="gradio-container"><div class="block ts" id="board"><div class="html-container">%s</div></div></body>"""
START = """([script, props]) => {
    const element = document.querySelector("#board");
    const watch = (name, changed) => { window.boardChanged = changed; };
    const trigger = async () => window.tunescopeBoard.show(await window.answer(JSON.stringify(props.value)));
    window.boardProps = props;
    new Function("element", "props", "trigger", "watch", script)(element, props, trigger, watch);
}"""


def open_board(page) -> None:
    """Draw the board, in English, on an empty browser tab."""
    page.goto("about:blank")
    if page.evaluate("typeof window.answer") == "undefined":
        page.expose_function("answer", _answer)
    with speaking("en"), gr.Blocks():
        drawn, _ = board.draw()
        props = json.loads(json.dumps({"value": drawn.value, **drawn.props}, default=str))
    styles = "\n".join(
        path.read_text(encoding="utf-8") for path in sorted(UI.rglob("*.css"), key=lambda path: path.name)
    )
    page.set_content(PAGE % (styles, drawn.html_template))
    page.evaluate(START, [drawn.js_on_load, props])


def _answer(value: str) -> dict:
    answer, _ = compare_request.answer(json.loads(value), "", Owner("local"))
    return answer


def asked(page) -> list[str]:
    """The columns that the board would send to the server, as lines."""
    return board.lines_of(page.evaluate("window.boardProps.value"))


def set_value(page, lines: list[str]) -> None:
    """Give the board other columns as its value, as Gradio does without telling what for."""
    value = {"columns": board.columns_of(lines)}
    page.evaluate("value => { window.boardProps.value = value; window.boardChanged(); }", value)
