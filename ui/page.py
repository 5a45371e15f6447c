"""The whole page: the first row, the line of runs, the tabs. Building it loads nothing heavy."""

import gradio as gr

from core import settings
from core.words import say
from ui import header
from ui.compare import tab as compare_tab
from ui.data import tab as data_tab
from ui.evaluate import tab as evaluate_tab
from ui.parts.views import render, view
from ui.parts.wiring import QUIET, Page, by_name
from ui.publish import tab as publish_tab
from ui.train import tab as train_tab
from ui.web.handler import Caller, handler
from ui.web.language import Spoken, words

TABS = {"data": data_tab, "train": train_tab, "compare": compare_tab, "evaluate": evaluate_tab, "publish": publish_tab}
FOR_ANYONE = "compare"


def build() -> gr.Blocks:
    """Build the page, ready to be launched."""
    space = settings.on_space()
    with gr.Blocks(title="Tunescope", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)) as demo:
        page = Page(demo, gr.Timer(2, active=not space))
        header.draw(page)
        notes = []
        with gr.Tabs(selected=FOR_ANYONE if space else "data", overflow_behavior="wrap") as page.tabs:
            for name, tab in TABS.items():
                with gr.Tab(words(f"page.{name}"), id=name) as page.tab:
                    notes += [_note("page.sign_in_first")] if space and name != FOR_ANYONE else []
                    if name == "train" and settings.zero_gpu():
                        _note("page.zero_gpu")
                    tab.draw(page)
        compare_tab.expose()
        if space:
            hints = {f"note_{number}": note for number, note in enumerate(notes)}
            demo.load(**by_name(wake, None, {"timer": page.timer, **hints}), **QUIET)
    return demo


def _note(key: str) -> gr.HTML:
    note = view()
    note.value = Spoken(lambda: render("note", kind="ts-warn", title="", text=say(key)))
    return note


@handler(quiet=True)
def wake(caller: Caller) -> dict:
    """Follow the runs of somebody who is signed in, and hide the notes that ask to sign in."""
    hints = {f"note_{number}": gr.update(visible=False) for number in range(len(TABS) - 1)}
    return {"timer": gr.Timer(active=True), **hints}
