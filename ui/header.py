"""The first row: name, promise, machine, language, sign-in; and below it the line of active runs."""

import gradio as gr

from core import settings
from ui.parts.preload import machine
from ui.parts.views import render, view
from ui.parts.wiring import SHOWN, Page
from ui.train.follow import active_runs
from ui.web.handler import Caller, handler


def draw(page: Page) -> None:
    """Draw both rows and wire them."""
    with gr.Row(elem_classes="ts-top"):
        view("header", scale=5, min_width=300)
        computer = view("machine", facts={"machine": None}, scale=3, min_width=220)
        view("language", scripts=("language.js",), scale=0, min_width=100)
        if settings.can_sign_in():
            gr.LoginButton(size="sm", scale=0, min_width=200)
    strip = view("strip", facts={"runs": []})
    page.demo.load(machine_line, None, computer, api_name="compare_machine", **SHOWN)
    page.every_two_seconds(runs_line, None, strip)


@handler(open_to_anyone=True, quiet=True)
def machine_line(caller: Caller) -> str:
    """Show the machine that Compare and the runs use, as soon as torch is loaded."""
    return render("machine", machine=machine())


@handler(quiet=True)
def runs_line(caller: Caller) -> str:
    """Show the owner's running and queued runs."""
    return render("strip", runs=active_runs(caller.owner))
