"""The Data tab: import a file, the example or a Hub dataset; see how it was read, what was skipped and what is
learned."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from core.words import say
from finetune.data.importing.importer import import_file, import_hub
from finetune.data.importing.recognize import recognize
from finetune.data.store import Dataset, example_file
from ui.data import mapping_form, preview
from ui.data.datasets import choices, owned
from ui.parts import delete_button
from ui.parts import job as work
from ui.parts.controls import button, dropdown, refreshed, textbox
from ui.parts.views import findings_table, render, view
from ui.parts.wiring import NEWEST, QUIET, SHOWN, Page, by_name
from ui.web.handler import Caller, handler
from ui.web.language import Spoken, words

FILE_TYPES = [".json", ".jsonl", ".csv", ".tsv", ".parquet", ".txt", ".gz"]


@dataclass
class ImportFields:
    """The components that import data."""

    upload: gr.File
    example: gr.Button
    hub: tuple[gr.Textbox, ...]
    import_hub: gr.Button
    progress: gr.HTML
    stop: gr.Button


def draw(page: Page) -> None:
    """Draw the tab and wire it."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            source = _draw_source()
        with gr.Column(scale=3, min_width=360):
            with gr.Row(elem_classes="ts-bar"):
                picker = dropdown("page.your_datasets", elem_id="datasets", scale=4, min_width=260)
                deleted = delete_button.draw(picker, choices, "dataset")
            summary = view(elem_id="dataset")
            summary.value = Spoken(nothing_yet)
    findings = view(elem_id="findings")
    mapping = mapping_form.draw()
    seen = preview.draw(picker)
    page.datasets.append(picker)
    deleted.success(show, picker, [summary, findings], **SHOWN).then(*seen.wiring, **SHOWN)
    _wire(page, source, picker, mapping, [summary, findings], seen)


def _draw_source() -> ImportFields:
    upload = gr.File(label=words("page.upload"), file_types=FILE_TYPES, height=170, elem_id="upload")
    example = button("page.example", variant="primary", elem_id="example")
    progress = view(elem_id="import-progress")
    stop = button("page.stop", visible=False, variant="stop", size="sm")
    with gr.Accordion(words("page.from_hub"), open=False):
        with gr.Row():
            repo = textbox("page.hub_repo", hint="page.hub_repo_hint", scale=2)
            config = textbox("page.hub_config", hint="page.optional")
        with gr.Row():
            split = textbox("page.hub_split", hint="page.optional")
            revision = textbox("page.hub_revision", hint="page.optional")
        bring = button("page.import")
    return ImportFields(upload, example, (repo, config, split, revision), bring, progress, stop)


def _wire(
    page: Page, source: ImportFields, picker: gr.Dropdown, mapping: Any, facts: list, seen: preview.DataPreview
) -> None:
    outcome = [source.progress, source.stop, picker, mapping.uploaded]
    once = {**SHOWN, "trigger_mode": "once"}
    imports = [
        source.upload.upload(**by_name(mapping_form.look, source.upload, mapping.outputs()), **once).success(
            bring_file, source.upload, outcome, **once
        ),
        source.example.click(bring_example, None, outcome, **once),
        source.import_hub.click(bring_hub, list(source.hub), outcome, **once),
        mapping.again.click(**by_name(bring_again, {"path": mapping.uploaded, **mapping.fields()}, outcome), **once),
    ]
    for event in imports:
        event.success(show, picker, facts, **SHOWN).then(*seen.wiring, **SHOWN)
    source.stop.click(stop_import, None, None, **QUIET)
    picker.input(show, picker, facts, **NEWEST).then(*seen.wiring, **SHOWN)
    page.on_open(refresh, picker, picker, then=(show, picker, facts), at_last=seen.wiring)


@handler()
def bring_file(caller: Caller, path: str | None) -> Iterator[tuple]:
    """Import an uploaded file if its format was recognized; else the mapping form asks for it."""
    if path and recognize(Path(path)).mapping is not None:
        yield from _bring(
            caller,
            lambda job: import_file(Path(path), caller.owner, progress=work.bytes_done(job, say("page.importing"))),
            path,
        )
    elif path:
        note = render("note", kind="ts-bad", title="", text=say("page.say_columns"))
        yield note, gr.update(visible=False), gr.skip(), path


@handler()
def bring_example(caller: Caller) -> Iterator[tuple]:
    """Import the rows that the project ships."""
    yield from _bring(
        caller,
        lambda job: import_file(example_file(), caller.owner, progress=work.bytes_done(job, say("page.importing"))),
        None,
    )


@handler()
def bring_hub(caller: Caller, repo: str, config: str, split: str, revision: str) -> Iterator[tuple]:
    """Import one split of a dataset repository."""
    owner = caller.owner
    config_name, split_name, commit = (text.strip() or None for text in (config, split, revision))
    yield from _bring(
        caller,
        lambda job: import_hub(
            repo.strip(),
            config_name,
            split_name,
            commit,
            owner,
            owner.token,
            progress=work.bytes_done(job, say("page.importing")),
        ),
        None,
    )


@handler()
def bring_again(caller: Caller, *, path: str | None, **fields: Any) -> Iterator[tuple]:
    """Import the last uploaded file again, with the columns that the form says."""
    mapping = mapping_form.read(path, fields)
    work_on = Path(path or "")
    yield from _bring(
        caller,
        lambda job: import_file(
            work_on, caller.owner, mapping=mapping, progress=work.bytes_done(job, say("page.importing"))
        ),
        path,
    )


def _bring(caller: Caller, bring: Callable[[work.Job], Dataset], path: str | None) -> Iterator[tuple]:
    busy = lambda text: (text, gr.update(visible=True), gr.skip(), gr.skip())  # noqa: E731
    idle = lambda: ("", gr.update(visible=False), gr.skip(), path)  # noqa: E731
    dataset = yield from work.run(caller, "import", bring, busy, idle)
    note = say("page.known_already" if dataset.known else "page.imported", name=dataset.name)
    text = render("note", kind="ts-good", title="", text=note)
    picker = gr.update(choices=choices(caller), value=dataset.id)
    yield text, gr.update(visible=False), picker, path


@handler()
def stop_import(caller: Caller) -> None:
    """Stop the running import; nothing of it is kept."""
    work.stop(caller, "import")


@handler(quiet=True)
def refresh(caller: Caller, chosen: str | None) -> Any:
    """List the owner's datasets; choose the newest if none is chosen."""
    return refreshed(choices(caller), chosen)


@handler(quiet=True)
def show(caller: Caller, chosen: str | None) -> tuple[str, str]:
    """Show how a dataset was read, and what was found in it."""
    if not chosen:
        return nothing_yet(), ""
    dataset = owned(caller, chosen)
    facts = render("dataset", dataset=dataset, report=dataset.report)
    return facts, findings_table(dataset.report.findings, say("page.no_findings"))


def nothing_yet() -> str:
    """Return what the tab shows before there is any data."""
    return render("empty", title=say("page.no_dataset"), text=say("page.no_dataset_help"))
