"""The first row: name, promise, what it runs on, language, sign-in; and under it the line of runs at work."""

import gradio as gr
from gradio.utils import get_space

from core import settings
from ui.caller import Caller, handler
from ui.runs import at_work
from ui.views import render, view
from ui.warm import machine
from ui.wiring import SHOWN, Page


def draw(page: Page) -> None:
    """Draw both rows and wire them."""
    with gr.Row(elem_classes="ts-top"):
        view("header", scale=5, min_width=300)
        computer = view("machine", facts={"machine": None}, scale=3, min_width=220)
        view("language", script="language.js", scale=0, min_width=100)
        if settings.can_sign_in() and get_space():
            gr.LoginButton(size="sm", scale=0, min_width=200)
    strip = view("strip", facts={"runs": []})
    page.demo.load(machine_line, None, computer, api_name="compare_machine", **SHOWN)
    page.every_two_seconds(runs_line, None, strip)


@handler(open_to_anyone=True, quiet=True)
def machine_line(caller: Caller) -> str:
    """What Compare and the runs compute on, as soon as torch is loaded."""
    return render("machine", machine=machine())


@handler(quiet=True)
def runs_line(caller: Caller) -> str:
    """The owner's running and queued runs."""
    return render("strip", runs=at_work(caller.owner))
