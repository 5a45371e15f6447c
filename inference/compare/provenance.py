"""Which weights the columns of a comparison ran on, as in its record and its share link, and what has changed since."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.words import say
from inference.compare.request import CompareRequest
from inference.strategies.syntax import join_line, split_line

if TYPE_CHECKING:
    from inference.engine.batch import Panel
    from inference.models.types import AdapterFiles, Source

Entry = dict[str, Any]
"""One model: the indices of its `columns`, `name`, `revision` and `fingerprint` of the base, and the `adapter` on it
with the same and the `base` it names, or None."""
_OWN = ("", "base", "tuned")
SHORT = 16
"""Hex digits of a fingerprint in a link."""


def models_of(panels: Sequence["Panel"]) -> list[Entry]:
    """Return every model that a column runs on: the bare base and each adapter have separate entries."""
    found: dict[tuple[object, ...], Entry] = {}
    for panel in panels:
        source = panel.loaded.source
        for index, spec in panel.columns:
            adapter = None if panel.bare(index, spec) or source is None else source.adapter
            key = (source.base.folder if source else panel.loaded, adapter.folder if adapter else None)
            if key not in found:
                found[key] = _entry(source, panel.loaded.name, panel.loaded.fingerprint, adapter)
            found[key]["columns"].append(index)
    for entry in found.values():
        entry["columns"].sort()
    return sorted(found.values(), key=lambda entry: entry["columns"][0])


def _entry(source: "Source | None", name: str, fingerprint: str, adapter: "AdapterFiles | None") -> Entry:
    return {
        "columns": [],
        "name": source.base.name if source else name,
        "revision": source.base.revision if source else None,
        "fingerprint": fingerprint,
        "adapter": _adapter(adapter) if adapter else None,
    }


def _adapter(adapter: "AdapterFiles") -> dict[str, Any]:
    from inference.models.fingerprint import file_fingerprint
    from inference.models.hub_files import ADAPTER_WEIGHTS

    return {
        "name": adapter.name,
        "revision": adapter.revision,
        "base": adapter.base_name,
        "fingerprint": file_fingerprint(adapter.folder / ADAPTER_WEIGHTS),
    }


def read_models(value: Any) -> list[Entry]:
    """Return the models of a record or a link, checked for the form that `models_of` gives them.

    Raises UserError for anything else: records and links come from strangers.
    """
    if isinstance(value, list) and len(value) <= 12 and all(_is_entry(entry) for entry in value):
        return value
    raise UserError("record.type", field="models", value=json.dumps(value, ensure_ascii=False)[:60])


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("columns"), list):
        return False
    indices = all(isinstance(index, int) and not isinstance(index, bool) for index in entry["columns"])
    adapter = entry.get("adapter")
    return indices and _is_named(entry) and (adapter is None or (isinstance(adapter, dict) and _is_named(adapter)))


def _is_named(facts: dict[str, Any]) -> bool:
    revision = facts.get("revision")
    texts = isinstance(facts.get("name"), str) and isinstance(facts.get("fingerprint"), str)
    return texts and (revision is None or isinstance(revision, str))


def pinned(request: CompareRequest, models: Sequence[Entry]) -> CompareRequest:
    """Return the request with every reference to a repository at the revision that was used, in the comparison and in
    its columns. References with a revision, runs and folders stay as they are."""
    is_own = [_model_of(line) in _OWN for line in request.columns]
    own = [entry for entry in models if any(0 <= index < len(is_own) and is_own[index] for index in entry["columns"])]
    columns = [_pinned_line(line, [entry for entry in models if index in entry["columns"]])
               for index, line in enumerate(request.columns)]  # fmt: skip
    adapter = None if request.adapter is None else _pin(request.adapter, own)
    return replace(request, model=_pin(request.model, own), adapter=adapter, columns=columns)


def _model_of(line: str) -> str:
    return next((word.removeprefix("model=") for word in split_line(line)[1:] if word.startswith("model=")), "")


def _pinned_line(line: str, entries: list[Entry]) -> str:
    strategy, *words = split_line(line)
    model = _model_of(line)
    at_revision = model if model in _OWN else _pin(model, entries)
    if at_revision == model:
        return line
    pairs = [tuple(word.split("=", 1)) for word in words if not word.startswith("model=")]
    return join_line(strategy, [*((name, value) for name, value in pairs), ("model", at_revision)])


def _pin(reference: str, entries: Sequence[Entry]) -> str:
    """Return the reference with the one revision that its model had."""
    named = [part for entry in entries for part in (entry, entry["adapter"]) if part and part["name"] == reference]
    revisions = {part["revision"] for part in named}
    (revision,) = revisions if len(revisions) == 1 else (None,)
    return f"{reference}@{revision}" if revision else reference


def shortened(models: Sequence[Entry]) -> list[Entry]:
    """Return the models for a link: with the first digits of their fingerprints."""
    cut = [entry | {"fingerprint": entry["fingerprint"][:SHORT]} for entry in models]
    return [entry | {"adapter": _short_adapter(entry["adapter"])} for entry in cut]


def _short_adapter(adapter: dict[str, Any] | None) -> dict[str, Any] | None:
    return adapter and {
        **{name: adapter[name] for name in ("name", "revision")},
        "fingerprint": adapter["fingerprint"][:SHORT],
    }


def other_weights(before: Sequence[Entry], now: Sequence[Entry]) -> Iterator[str]:
    """Yield a sentence for each base model or adapter that has changed, with its columns."""
    changed: dict[tuple[str, str, str, str], list[int]] = {}
    for entry in now:
        for index in entry["columns"]:
            then = next((earlier for earlier in before if index in earlier["columns"]), None)
            for key in _changes(then, entry) if then else ():
                changed.setdefault(key, []).append(index + 1)
    for (code, name, was, is_), numbers in changed.items():
        columns = ", ".join(map(str, numbers))
        yield say(f"record.{code}", name=name, columns=columns, before=was[:SHORT], now=is_[:SHORT])


def _changes(then: Entry, now: Entry) -> Iterator[tuple[str, str, str, str]]:
    """Yield what has changed in one column's model: (key of the sentence, name, before, now)."""
    for was, is_ in ((then, now), (then["adapter"], now["adapter"])):
        if was is None and is_ is None:
            continue
        if was is None or is_ is None:
            name = (was or is_ or {})["name"]
            yield "other_adapter", name, was["name"] if was else "-", is_["name"] if is_ else "-"
        elif not is_["fingerprint"].startswith(was["fingerprint"]):
            yield "other_weights", is_["name"], was["fingerprint"], is_["fingerprint"]
        elif was["revision"] != is_["revision"]:
            yield "other_revision", is_["name"], was["revision"] or "-", is_["revision"] or "-"
