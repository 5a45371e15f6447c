"""The Compare tab: one prompt, up to twelve columns side by side, all written at the same time."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import gradio as gr

from core import logs, settings
from core.words import say
from inference.compare.fair_queue import Turn, Turns
from inference.compare.record import changes, record_of
from inference.compare.request import CompareRequest, check_request
from inference.compare.service import run_comparison
from inference.events import Board, Loading, Result, Started, Step
from ui.compare import board, board_feed, details, links, prompt_sets
from ui.compare import request as compare_request
from ui.compare.last_comparison import comparisons, opened
from ui.compare.request import request_of
from ui.parts import job as work
from ui.parts import model_picker
from ui.parts.controls import button, dropdown, textbox
from ui.parts.views import render, view
from ui.parts.wiring import QUIET, SHOWN, Page, Parts, by_name
from ui.train import run_view
from ui.web.handler import Caller, Superseded, handler
from ui.web.language import words
from ui.web.presence import presence

UPDATES_PER_SECOND, WAITING_S = 10, 0.25
EXAMPLES = ("tea", "story", "sky")
DTYPES = ("auto", "float32", "bfloat16", "float16")
_runs = itertools.count(1)
_turns = Turns()


@dataclass
class CompareForm:
    """The components that describe the comparison, and those that show its progress and result."""

    prompt: gr.Textbox
    start: gr.Button
    stop: gr.Button
    examples: list[gr.Button]
    settings: Parts
    status: gr.HTML
    board: gr.HTML
    updates: gr.HTML
    tokens: gr.HTML
    answers: gr.HTML

    def inputs(self) -> Parts:
        return {"prompt": self.prompt, "cards": self.board, **self.settings}

    def outputs(self) -> Parts:
        """Return the components that `compare_run` fills."""
        return {name: getattr(self, name) for name in ("updates", "status", "start", "stop", "tokens")}


def draw(page: Page) -> None:
    """Draw the tab and wire it."""
    form, views = _draw(), details.draw(shelf, partial(join, what="check"))
    go: dict[str, Any] = {**SHOWN, "trigger_mode": "once"}
    running = by_name(compare_run, form.inputs(), form.outputs()) | go
    for starter in (form.start.click, form.prompt.submit):
        views.follow(starter(**running, api_name="compare_run"))
    for name, example in zip(EXAMPLES, form.examples, strict=True):
        key = f"page.example_{name}"
        filled = example.click(_example(key), None, form.prompt, api_name=f"compare_{name}", **QUIET)
        views.follow(filled.then(**running, api_name=f"compare_run_{name}"))
    form.stop.click(compare_stop, None, None, api_name="compare_stop", **QUIET)
    links.hook(page, form, request_of)
    model, answered = form.settings["model"], [form.answers, form.status]
    form.board.submit(compare_ask, [form.board, model], answered, api_name="compare_ask", **go)
    page.on_open(refresh, None, [model, form.answers])
    page.tab.select(refresh, None, [model, form.answers], **QUIET)
    services = prompt_sets.CompareServices(request_of, partial(join, what="prompt_set"), shelf)
    prompt_sets.draw(page, {"cards": form.board, **form.settings}, services)


def expose() -> None:
    """Offer `/compare` to programs."""
    gr.api(compare, api_name="compare", api_description=compare.__doc__, concurrency_limit=None)


def _draw() -> CompareForm:
    with gr.Row(elem_classes="ts-ask"):
        prompt = textbox(
            "page.prompt", hint="page.prompt_hint", lines=2, max_lines=10, scale=6, min_width=280, elem_id="prompt"
        )
        with gr.Column(scale=1, min_width=150):
            start = button("page.compare_start", variant="primary", elem_id="compare-start")
            stop = button("page.stop", variant="stop", interactive=False, elem_id="compare-stop")
    with gr.Row(elem_classes="ts-chips"):
        examples = [button(f"page.example_{name}", size="sm", scale=0, min_width=120) for name in EXAMPLES]
    basic = _draw_basic()
    status = view(elem_id="compare-status")
    cards, feeds = board.draw()
    return CompareForm(prompt, start, stop, examples, basic | _draw_conversation(), status, cards, *feeds)


def _draw_basic() -> Parts:
    with gr.Row(elem_classes="ts-basic"):
        model = dropdown(
            "page.model", [settings.DEFAULT_MODEL], settings.DEFAULT_MODEL,
            allow_custom_value=True, scale=4, min_width=280, elem_id="compare-model",
        )  # fmt: skip
        seed = gr.Number(7, label=words("page.seed"), precision=0, min_width=90, elem_id="compare-seed")
        length = gr.Number(
            100, label=words("page.max_new_tokens"), precision=0, min_width=110, elem_id="compare-length"
        )
        dtype = dropdown("page.dtype", list(DTYPES), "auto", min_width=110, elem_id="compare-dtype")
    model_picker.draw(model, "compare", open_to_anyone=True)
    exact = gr.Checkbox(False, label=words("board.exact"), container=False, elem_id="compare-exact")
    return {"model": model, "seed": seed, "length": length, "dtype": dtype, "exact": exact}


def _draw_conversation() -> Parts:
    with gr.Accordion(words("page.conversation"), open=False):
        system = textbox("page.system", lines=1)
        turns = textbox("page.turns", hint="page.turns_hint", lines=3)
        raw = gr.Checkbox(False, label=words("page.raw"), info=words("page.raw_help"), elem_id="compare-raw")
    return {"system": system, "turns": turns, "raw": raw}


@cache
def shelf() -> Any:
    """Return the models kept loaded, for everybody."""
    from inference.models.locate import Shelf

    return Shelf()


def _example(key: str) -> Any:
    @handler(open_to_anyone=True)
    def example(caller: Caller) -> str:
        """Put an example prompt into the field."""
        return say(key)

    return example


@handler(quiet=True)
def refresh(caller: Caller) -> tuple:
    """List the owner's finished runs as models to compare."""
    runs = run_view.choices(caller, finished=True)
    models = [("", say("page.model_above")), ("base", say("page.its_base")), *((run, title) for title, run in runs)]
    above = [settings.DEFAULT_MODEL, *((title, run) for title, run in runs)]
    return gr.update(choices=above), {"models": models}


@handler(open_to_anyone=True)
def compare_run(caller: Caller, *, prompt: str, cards: Any, **fields: Any) -> Iterator[dict]:
    """Run a comparison when its turn comes and show it as it is written, at most ten times a second."""
    request = request_of(prompt, board.lines_of(cards), **fields)
    check_request(request)
    run, state, lock, shown = next(_runs), Board(), threading.Lock(), None
    turn, job = join(caller), work.begin(caller, "compare")
    busy = {"start": gr.update(interactive=False), "stop": gr.update(interactive=True)}
    idle = {"start": gr.update(interactive=True), "stop": gr.update(interactive=False)}
    buttons: dict[str, Any] = busy
    try:
        job.start(lambda job: _fold(request, caller, turn, state, lock, job))
        while not job.wait(1 / UPDATES_PER_SECOND if turn.mine else WAITING_S) and work.newest(caller, "compare", job):
            with lock:
                columns, status = board_feed.update(run, state.columns), _status(state, turn)
            yield {"updates": columns, **buttons, **({} if status == shown else {"status": status})}
            shown, buttons = status, {}
        if not work.newest(caller, "compare", job):
            raise Superseded
        if job.error is not None:
            yield {"updates": board_feed.over(run), "status": "", **idle}
            raise job.error
        if state.result is not None:
            comparisons.keep(caller, request, state.result)
        yield {"tokens": board_feed.details(run, state.columns)}
        summary = _summary(state, request.exact, opened.made(caller, request))
        yield {"updates": board_feed.update(run, state.columns, final=True), "status": summary, **idle}
    finally:
        work.end(caller, "compare", job)


def join(caller: Caller, what: str = "comparison") -> Turn:
    """Return a turn in the queue of everything that uses the models."""
    turn = _turns.join(caller.line, stranger=caller.anonymous)
    logs.event("queued", id=caller.visitor.request, what=what, before=turn.before())
    return turn


def _fold(request: CompareRequest, caller: Caller, turn: Turn, state: Board, lock: Any, job: work.Job) -> None:
    """Run the comparison in the job and fold its events into `state`; keep the turn until the work has really ended.
    `late` counts forwards after a stop."""
    late: Counter[int] = Counter()
    facts: dict[str, Any] = {
        "id": caller.visitor.request,
        "columns": len(request.columns),
        "tokens": request.max_new_tokens,
    }
    with turn, logs.timed("comparison", **facts) as noted:
        for event in run_comparison(request, caller.owner, shelf(), job.stop, turn):
            if isinstance(event, Step) and job.stop.is_set():
                late[event.column] += 1
            with lock:
                state.take(event)
        forwards = state.result.forwards if state.result else 0
        noted |= {"forwards": forwards, "stopped": job.stop.is_set(), "late": max(late.values(), default=0)}


def _status(state: Board, turn: Turn) -> str:
    if turn.ready and (before := turn.before()):
        return render("progress", progress=Loading(say("page.waiting", count=before)))
    if state.loading is not None or state.started is None:
        return render("progress", progress=state.loading)
    return render("note", kind="", title=_stands_in(state.started), text=say("page.writing", model=state.started.model))


def _stands_in(started: Started) -> str:
    """Return a note if the stand-in replaces the requested model, alone or under a run's adapter; else nothing."""
    return say("page.stand_in", default=settings.DEFAULT_MODEL) if started.stand_in else ""


def _summary(state: Board, exact: bool = False, made: dict[str, Any] | None = None) -> str:
    """Return the summary of the comparison; `made` is the record that the opened link was made from."""
    result = state.result
    if result is None or state.started is None:
        return ""
    facts = {"model": result.model, "dtype": result.dtype, "prompt": result.prompt_tokens, "forwards": result.forwards}
    text = say("page.compared", seconds=f"{result.wall_s:.1f}", load=f"{result.load_s:.1f}", **facts)
    if result.dtype != "float32":
        text += " " + say("board.is_exact" if exact else "board.approximate")
    if state.started.short_of_memory:
        text += " " + say("board.short_of_memory")
    if made is not None:
        text = "\n".join([text, *(changes(made, result) or [say("record.as_then")])])
    return render("note", kind="", title=_stands_in(state.started), text=text)


@handler(open_to_anyone=True)
def compare_ask(caller: Caller, cards: Any, model: str) -> tuple:
    """Answer a card's question: a sweep of one of its settings, or the model's default settings."""
    answer, said = compare_request.answer(cards, (model or "").strip(), caller.owner)
    return answer, render("note", kind="", title="", text=said) if said else gr.skip()


@handler(open_to_anyone=True)
def compare_stop(caller: Caller) -> None:
    """Stop the comparison of this browser tab within one step."""
    work.stop(caller, "compare")


@handler(open_to_anyone=True)
def compare(
    caller: Caller,
    prompt: str,
    columns: list[str],
    model: str = settings.DEFAULT_MODEL,
    adapter: str = "",
    seed: int = 0,
    max_new_tokens: int = 100,
    dtype: str = "auto",
    raw: bool = False,
    exact: bool = False,
) -> dict:
    """Write one prompt's continuation under several decoding strategies at once.

    Parameters:
        prompt: one user message (under the model's chat template) or, with raw, plain text to go on with
        columns: 1 to 12 lines such as "greedy", "beam num_beams=4" or "nucleus top_p=0.9 temperature=0.8 model=base"
        model: a Hub repository (owner/name or owner/name@revision) or the id of one of your runs
        adapter: a Hub repository with a LoRA adapter for that model, or empty
        seed: one seed for all columns
        max_new_tokens: how many tokens each column writes at most
        dtype: auto, float32, bfloat16 or float16
        raw: leave out the chat template
        exact: compute each column alone, in the shapes of generate: equal to it in 16 bit too, and slower
    Returns:
        {"model", "dtype", "prompt_tokens", "forwards", "wall_s", "load_s", "columns": [{"name", "model", "token_ids",
        "text", "finish", "metrics", "row_forwards"}], "seed", "prompt_ids", "models", "request", ...}: the record
    """
    request = CompareRequest(
        model, columns, prompt, adapter=None if adapter == "" else adapter, seed=seed, max_new_tokens=max_new_tokens,
        dtype=None if dtype == "auto" else dtype, raw=raw, exact=exact,
    )  # fmt: skip
    check_request(request)
    return record_of(request, _written(request, caller))


def _written(request: CompareRequest, caller: Caller) -> Result:
    """Return the whole result for a caller who waits for it; end the work if they disconnect."""
    state, turn, here = Board(), join(caller), presence()
    job = work.Job().start(lambda job: _fold(request, caller, turn, state, threading.Lock(), job))
    while not job.wait(WAITING_S):
        if not here():
            job.stop.set()
    if job.error is not None:
        raise job.error
    assert state.result is not None, "a comparison ends with its result"
    return state.result
