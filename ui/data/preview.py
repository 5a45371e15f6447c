"""The first rows of a dataset as chat bubbles, and as the tokens a model reads, colored by whether they carry loss."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from core import rows, settings
from core.words import say
from ui.data.datasets import owned
from ui.parts import job as work
from ui.parts.controls import button, textbox
from ui.parts.views import findings_table, render, view
from ui.parts.wiring import NEWEST, QUIET, SHOWN
from ui.web.handler import Caller, handler
from ui.web.language import words

SHOWN_ROWS = 6
CHECKED_ROWS = 5_000


@dataclass
class DataPreview:
    """The event that redraws the preview: function, inputs, outputs."""

    wiring: tuple


def draw(picker: gr.Dropdown) -> DataPreview:
    """Draw the preview under the dataset."""
    with gr.Row(elem_classes="ts-bar"):
        how = gr.Radio(
            [(words("page.as_chat"), "chat"), (words("page.as_tokens"), "tokens")],
            value="chat",
            label=words("page.preview"),
            elem_id="preview-how",
        )
        model = textbox("page.preview_model", value=settings.DEFAULT_MODEL, visible=False, elem_id="preview-model")
        length = gr.Number(1024, label=words("page.preview_length"), precision=0, minimum=16, visible=False)
    stop = button("page.stop", visible=False, variant="stop", size="sm")
    shown = view(elem_id="preview")
    wiring = (show, [picker, how, model, length], [shown, stop])
    stop.click(stop_preview, None, None, **QUIET)
    how.input(choose, how, [model, length], **NEWEST).then(*wiring, **SHOWN)
    for field in (model, length):
        field.submit(*wiring, **SHOWN)
    return DataPreview(wiring)


@handler()
def choose(caller: Caller, how: str) -> list:
    """Show the fields for the model only for the preview as tokens."""
    return [gr.update(visible=how == "tokens")] * 2


@handler()
def show(caller: Caller, chosen: str | None, how: str, model: str, length: float | None) -> Iterator[tuple]:
    """Show the first rows, as bubbles or as tokens."""
    hidden = gr.update(visible=False)
    if not chosen:
        yield "", hidden
        return
    dataset = owned(caller, chosen)
    if how == "chat":
        yield render("bubbles", rows=list(_bubbles(dataset))), hidden
        return
    most = int(length or 1024)
    tokens = lambda job: _tokens(caller, dataset, model, most, job)  # noqa: E731
    busy = lambda text: (text, gr.update(visible=True))  # noqa: E731
    yield (yield from work.run(caller, "preview", tokens, busy, lambda: ("", hidden))), hidden


@handler()
def stop_preview(caller: Caller) -> None:
    """Stop the download for the preview."""
    work.stop(caller, "preview")


def _bubbles(dataset: Any) -> Iterator[dict]:
    for number, row in zip(dataset.numbers(SHOWN_ROWS), dataset.rows(SHOWN_ROWS), strict=True):
        yield {"number": number, "turns": list(turns(row))}


def turns(row: rows.Row) -> Iterator[dict[str, str]]:
    """Yield a row of any kind as turns: who speaks, and the text."""
    match row:
        case rows.ChatRow():
            yield from (_turn(message.role, message.content) for message in row.messages)
        case rows.PreferenceRow():
            yield from (_turn(message.role, message.content) for message in row.prompt)
            yield from (_turn("chosen", message.content) for message in row.chosen)
            yield from (_turn("rejected", message.content) for message in row.rejected)
        case rows.PairRow():
            yield _turn("source", row.source)
            yield _turn("target", row.target)
        case _:
            yield _turn("text", getattr(row, "text", str(row)))


def _turn(role: str, text: str) -> dict[str, str]:
    return {"role": role, "label": say(f"page.turn_{role}"), "text": text}


def _tokens(caller: Caller, dataset: Any, model: str, length: int, job: work.Job) -> str:
    from finetune.data.tokenizing.check import data_findings
    from finetune.data.tokenizing.tokenize import encode, pieces

    tokenizer = _tokenizer(caller, model, job)
    shown = []
    for number, row in zip(dataset.numbers(SHOWN_ROWS), dataset.rows(SHOWN_ROWS), strict=True):
        encoded = encode(row, tokenizer, length)
        learned = sum(label != -100 for label in encoded.labels)
        note = say("page.tokens_of_row", total=encoded.total, learned=learned)
        shown.append({"number": number, "note": note, "pieces": pieces(row, tokenizer, length)})
    found = data_findings(dataset, tokenizer, length, CHECKED_ROWS)
    table = findings_table(found, say("page.no_findings_model"))
    return render("pieces", rows=shown, model=model) + table


def _tokenizer(caller: Caller, model: str, job: work.Job) -> Any:
    """Load the tokenizer of a model that the caller may read, with a chat template."""
    from inference.models.locate import locate_tokenizer

    return _loaded(locate_tokenizer(model.strip(), caller.owner, progress=job.report, stop=job.stop))


@lru_cache(maxsize=4)
def _loaded(folder: Path) -> Any:
    from finetune.data.tokenizing.tokenize import ensure_template
    from inference.models.locate import load_tokenizer

    tokenizer = load_tokenizer(folder)
    ensure_template(tokenizer)
    return tokenizer
