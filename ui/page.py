"""The whole page: the first row, the line of runs, the tabs. Building it loads nothing heavy."""

import gradio as gr

from core import settings
from ui import compare_tab, data_tab, header, publish_tab, train_tab
from ui.wiring import Page

TABS = (data_tab, train_tab, compare_tab, publish_tab)


def build() -> gr.Blocks:
    """The page, ready to be launched."""
    with gr.Blocks(title="Tunescope", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)) as demo:
        timer = gr.Timer(2, active=not settings.on_space())
        page = Page(demo, timer)
        header.draw(page)
        with gr.Tabs(selected="compare" if settings.on_space() else "data") as page.tabs:
            for tab in TABS:
                tab.draw(page)
        compare_tab.expose()
    return demo
