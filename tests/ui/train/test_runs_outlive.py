"""A run does not depend on the page: it outlives a killed one, and the next page finds, stops and resumes it."""

import json
import os
import re
import signal
import time

import gradio as gr

from core.workspace import Owner
from finetune.config.run_config import validate
from finetune.config.yaml_reader import nest
from finetune.runs.run import Run
from tests.app_process import call, running_app
from tests.ui.people import entry_of
from ui.train import form, run_view
from ui.web.handler import Caller

QUICK = {"OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
MANY_EPOCHS = 2000
KEEP = 5
"""Where the button stands among what the view of a run is drawn anew with."""


def ask(app, name, data):
    message = call(app, entry_of(app, name), data)
    assert message["success"], message["output"]
    return message["output"]["data"]


def form_values(**changed):
    """The form's fields, as they come but for some knobs."""
    told = nest({path.replace("__", "."): value for path, value in changed.items()})
    return form.fill(validate({**told, "stages": [{"data": [{"dataset": "ab" * 6}]}]}))


def wait_for(app, run, shown):
    while shown not in (html := ask(app, "tick", [run, ""])[2]):
        assert "ts-is-failed" not in html, html
        time.sleep(0.1)
    return html


def test_a_killed_page_leaves_the_run_alone_and_the_next_finds_it(tmp_path, tiny_model):
    with running_app(tmp_path, QUICK) as first:
        imported = ask(first, "bring_example", [])
        dataset = imported[2]["value"]
        values = form_values(model=str(tiny_model), limits__max_length=64, optim__epochs=MANY_EPOCHS)
        started = ask(first, "start", ["here", None, "2h", [dataset], *values])
        run = started[2]["value"]
        wait_for(first, run, "ts-is-running")
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    with running_app(tmp_path, QUICK) as second:
        assert run in ask(second, "runs_line", [])[0]
        before = step_of(wait_for(second, run, " / "))
        while step_of(ask(second, "tick", [run, ""])[2]) <= before:
            time.sleep(0.1)
        ask(second, "stop_run", [run])
        stopped = step_of(wait_for(second, run, "ts-is-stopped"))
        ask(second, "resume_run", [run, None])
        wait_for(second, run, "ts-is-running")
        while step_of(ask(second, "tick", [run, ""])[2]) <= stopped:
            time.sleep(0.1)
        ask(second, "stop_run", [run])
        wait_for(second, run, "ts-is-stopped")


def test_the_last_checkpoint_of_a_killed_run_becomes_its_result_on_the_page(app, tiny_model):
    dataset = ask(app, "bring_example", [])[2]["value"]
    more = {"limits__max_length": 64, "optim__epochs": MANY_EPOCHS, "watch__checkpoint_every": 2}
    run = ask(app, "start", ["here", None, "2h", [dataset], *form_values(model=str(tiny_model), **more)])[2]["value"]
    folder = app.log.parent / "home/local/runs" / run
    while not list(folder.glob("checkpoints/checkpoint-*/trainer_state.json")):
        wait_for(app, run, "ts-is-")
        time.sleep(0.1)
    assert not ask(app, "tick", [run, ""])[KEEP]["visible"]
    os.kill(json.loads((folder / "handle.json").read_text())["pid"], signal.SIGKILL)
    Run(folder).wait()
    assert ask(app, "tick", [run, ""])[KEEP]["visible"]
    assert "has finished" in ask(app, "keep_result", [run])[0]
    assert "ts-is-done" in ask(app, "tick", [run, ""])[2]
    assert (folder / "model" / "adapter_model.safetensors").is_file()


def step_of(html):
    return int(re.search(r"<b>(\d+)<small> /", html).group(1))


def test_what_did_not_change_is_not_sent_again(workspace):
    caller = Caller(Owner("local"), "en", "tab")
    first = run_view._view(caller, None, None)
    assert first[0] == "" and "ts-empty" in first[2]
    assert all(value == gr.skip() for value in run_view._view(caller, None, first[0]))
