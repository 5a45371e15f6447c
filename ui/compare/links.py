"""Links that fill Compare with a prompt and its columns: `?c=...` in the page's address, and the button that makes one.

A link only fills in; who opens it looks it through and starts it.
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
from ui.parts.wiring import QUIET, Page
from ui.web.handler import Caller, handler
from ui.web.language import words

FROM_ADDRESS = "() => [new URLSearchParams(location.search).get('c') || '']"


def hook(page: Page, asked: Any, make: Callable[..., CompareRequest]) -> None:
    """Draw the button and let an address fill the tab.

    `asked` has the tab's components, `make(prompt, lines, *settings)` is how the tab makes a request of their values.
    """
    with gr.Row(elem_classes="ts-chips"):
        copy = button("record.copy", size="sm", scale=0, min_width=140, elem_id="compare-link")
        made = gr.Textbox(
            label=words("record.link"), visible=False, interactive=False, buttons=["copy"], max_lines=2, scale=4,
            elem_id="compare-link-made",
        )  # fmt: skip
    making = copy.click(_copier(make), asked.inputs(), made, api_name="compare_link", **QUIET)
    making.success(None, made, made, js=script("copy_link.js"), **QUIET)
    columns = board.feed("link")
    filled = [asked.prompt, *asked.settings, columns, asked.status, page.tabs]
    page.demo.load(_opener(len(asked.settings)), made, filled, js=FROM_ADDRESS, api_name="compare_opened", **QUIET)


def _copier(make: Callable[..., CompareRequest]) -> Callable:
    @handler(open_to_anyone=True)
    def compare_link(caller: Caller, prompt: str, cards: Any, *settings_of: Any) -> Any:
        """A link to what is asked now; where that was run last, with what it came from."""
        request = make(prompt, board.lines_of(cards), *settings_of)
        check_request(request)
        last = comparisons.find(caller)
        made = link_origin(last.result) if last is not None and same_request(last.request, request) else None
        return gr.update(value=link_of(request, made), visible=True)

    return compare_link


def _opener(settings: int) -> Callable:
    @handler(open_to_anyone=True)
    def compare_opened(caller: Caller, text: str) -> list[Any]:
        """Fill the tab from the address, where that has something, and show it."""
        if not text:
            return [*[gr.skip()] * (settings + 1), None, "", gr.skip()]
        show = gr.update(selected="compare")
        try:
            request, made = read_link(text)
        except UserError as error:  # while a page opens, Gradio shows no message
            note = render("note", kind="ts-warn", title="", text=str(error))
            return [*[gr.skip()] * (settings + 1), None, note, show]
        if made is not None:
            opened.keep(caller, request, made)
        prompt, *rest = _values(request)
        note = render("note", kind="", title="", text=say("record.opened"))
        return [prompt, *rest[:settings], {"lay": board.columns_of(request.columns)}, note, show]

    return compare_opened


def _values(request: CompareRequest) -> list[Any]:
    """The prompt, then the tab's settings in their order."""
    spoken: Sequence[Mapping[str, Any]] = request.messages or [{"role": "user", "content": request.prompt}]
    *before, last = spoken
    system = "\n".join(turn["content"] for turn in before if turn["role"] == "system")
    turns = "\n".join(f"{turn['role'].title()}: {turn['content']}" for turn in before if turn["role"] != "system")
    asked = [request.adapter or request.model, request.seed, request.max_new_tokens, request.dtype or "auto"]
    return [last["content"], *asked, system, turns, request.raw, request.exact]
