"""Links that fill Compare with a prompt and its columns: `?c=...` in the page's address, and the button that makes one.

A link only fills in the fields; the person who opens it checks them and starts the comparison.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from core.errors import UserError
from core.words import say
from inference.compare.record import link_of, link_origin, read_link, same_request
from inference.compare.request import CompareRequest, check_request
from ui.compare import board
from ui.compare.last_comparison import comparisons, opened
from ui.parts.controls import button
from ui.parts.views import render, script
from ui.parts.wiring import QUIET, Page, by_name
from ui.web.handler import Caller, handler
from ui.web.language import words

FROM_ADDRESS = "() => [new URLSearchParams(location.search).get('c') || '']"


def hook(page: Page, form: Any, make: Callable[..., CompareRequest]) -> None:
    """Draw the button and let an address fill the tab.

    `form` has the tab's components, `make(prompt, lines, **settings)` is how the tab makes a request of their values.
    """
    with gr.Row(elem_classes="ts-chips"):
        copy = button("record.copy", size="sm", scale=0, min_width=140, elem_id="compare-link")
        made = gr.Textbox(
            label=words("record.link"), visible=False, interactive=False, buttons=["copy"], max_lines=2, scale=4,
            elem_id="compare-link-made",
        )  # fmt: skip
    making = copy.click(**by_name(_copier(make), form.inputs(), made), api_name="compare_link", **QUIET)
    making.success(None, made, made, js=script("copy_link.js"), **QUIET)
    filled = {"prompt": form.prompt, **form.settings}
    filled |= {"columns": board.feed("link"), "status": form.status, "tabs": page.tabs}
    opening = by_name(compare_opened, made, filled)
    page.demo.load(**opening, js=FROM_ADDRESS, api_name="compare_opened", **QUIET)


def _copier(make: Callable[..., CompareRequest]) -> Callable:
    @handler(open_to_anyone=True)
    def compare_link(caller: Caller, *, prompt: str, cards: Any, **fields: Any) -> Any:
        """Make a link to the present request; if that is the last one that was run, the link also records its
        result."""
        request = make(prompt, board.lines_of(cards), **fields)
        check_request(request)
        last = comparisons.find(caller)
        made = link_origin(last.result) if last is not None and same_request(last.request, request) else None
        return gr.update(value=link_of(request, made), visible=True)

    return compare_link


@handler(open_to_anyone=True)
def compare_opened(caller: Caller, text: str) -> dict[str, Any]:
    """Fill the tab from the address, where that has something, and show it."""
    if not text:
        return {"columns": None, "status": ""}
    show = gr.update(selected="compare")
    try:
        request, made = read_link(text)
    except UserError as error:  # while a page opens, Gradio shows no message
        note = render("note", kind="ts-warn", title="", text=str(error))
        return {"columns": None, "status": note, "tabs": show}
    if made is not None:
        opened.keep(caller, request, made)
    note = render("note", kind="", title="", text=say("record.opened"))
    columns = {"lay": board.columns_of(request.columns)}
    return {**_values(request), "columns": columns, "status": note, "tabs": show}


def _values(request: CompareRequest) -> dict[str, Any]:
    """Return the values of the prompt and of the tab's settings."""
    messages: Sequence[Mapping[str, Any]] = request.messages or [{"role": "user", "content": request.prompt}]
    *before, last = messages
    return {
        "prompt": last["content"],
        "model": request.adapter or request.model,
        "seed": request.seed,
        "length": request.max_new_tokens,
        "dtype": request.dtype or "auto",
        "system": "\n".join(turn["content"] for turn in before if turn["role"] == "system"),
        "turns": "\n".join(f"{turn['role'].title()}: {turn['content']}" for turn in before if turn["role"] != "system"),
        "raw": request.raw,
        "exact": request.exact,
    }
