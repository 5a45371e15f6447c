"""The YAML head of a card
, which the Hub reads: made from the facts, and checked before anything is sent."""

import html
import re
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.workspace import Owner
from finetune.publish.card import measures
from finetune.publish.card.before_after import before_after_of, results_of
from finetune.publish.repo import records, remote
from finetune.publish.repo.scan import machine_path, refuse_secrets

if TYPE_CHECKING:
    from finetune.publish.card.facts import Subject

_HEAD = re.compile(r"\A---\r?\n(.*?)\r?\n---[ \t]*(\r?\n|\Z)", re.DOTALL)
_LONGEST_CARD = 1_000_000
_LIBRARIES = {"adapter": "peft", "merged": "transformers", "gguf": "gguf", "presets": "transformers"}
_TAGS = {"adapter": ["lora"], "gguf": ["gguf", "llama.cpp"], "presets": ["decoding"]}
_NEEDED = {
    "adapter": ("base_model", "library_name", "tags"),
    "merged": ("library_name", "tags"),
    "gguf": ("library_name", "tags"),
    "presets": ("tags",),
    "dataset": ("license",),
    "space": ("sdk", "app_file"),
}


def head(subject: "Subject", hub_datasets: list[str], languages: list[str]) -> str:
    """Return the YAML between the dashes, with a newline at its end."""
    from huggingface_hub import ModelCardData

    base, base_license, measured = subject.base, subject.license, measures.measured_of(subject.run)
    name, relation = _base(subject)
    compared = before_after_of(subject.run)
    found = results_of(compared) if compared else _results(measured)
    results = found if subject.kind != "presets" else []
    data = ModelCardData(
        base_model=name,
        base_model_relation=relation if name else None,
        datasets=hub_datasets or None,
        language=languages or None,
        library_name=_LIBRARIES[subject.kind],
        license=base_license.key,
        license_name=base_license.name,
        license_link=base_license.link,
        pipeline_tag="text-generation",
        tags=["tunescope", *(_TAGS.get(subject.kind, []) if base else [])],
        model_name=subject.name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml() + "\n"


def _base(subject: "Subject") -> tuple[str | None, str]:
    """Return the repository that a model was made from, and the relation. A GGUF is a quantization of the merged model,
    where that was published."""
    base = subject.base.hub_id
    if subject.kind == "gguf":
        merged = records.read_push(subject.run, "merged")
        return (merged.repo_id, "quantized") if merged and not merged.private else (base, "finetune")
    return base, "adapter" if subject.kind == "adapter" else "finetune"


def _results(measured: "measures.HeldOutLosses | None") -> list[Any]:
    """Return measurements in the form of `model-index`. The data is the run's own, so its name says no more than
    that."""
    from huggingface_hub import EvalResult

    if measured is None:
        return []
    values = {"loss": measured.last_loss, "perplexity": measured.last_perplexity}
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type="tunescope",
            dataset_name="held-out rows of the run",
            dataset_split="validation",
            metric_type=name,
            metric_value=round(value, 4),
        )
        for name, value in values.items()
        if value is not None
    ]


def checked_card(text: str, subject: "Subject", owner: Owner, *, given: bool) -> str:
    """Check a card and return it: its head has what the Hub needs, it contains no secret and no folder of this machine,
    and the Hub accepts it. `given`: a person wrote it. Raises UserError."""
    if len(text.encode()) > _LONGEST_CARD:
        raise UserError("publish.oversized", file="README.md", size=len(text.encode()) // 10**6, limit=1)
    _check_head(text, subject, given)
    for seen in (text, _as_read(text)):
        refuse_secrets("README.md", seen.encode(), owner)
        if found := machine_path([f" {line}" for line in seen.splitlines()]):
            raise UserError("publish.path_inside", file="README.md", value=(machine_path(seen.split()) or found)[:80])
    with remote.in_words(subject.to.repo_id, owner):
        remote.check_card(text, subject.to, owner)
    return text


def _as_read(text: str) -> str:
    """Return the card without escapes (`card.harmless`): a secret may hide behind them."""
    return html.unescape(re.sub(r"\\([^\w\s]|_)", r"\1", text))


def _check_head(text: str, subject: "Subject", given: bool) -> None:
    values = read_head(text)
    for key in _NEEDED[subject.kind]:
        needed = key != "base_model" or (subject.base is not None and subject.base.hub_id)
        if needed and not values.get(key):
            raise UserError("publish.card_lacks", field=key)
    base, base_license = subject.base, subject.license
    if given and base is not None and base.hub_id and subject.kind == "adapter":
        named = values.get("base_model")
        if base.hub_id not in (named if isinstance(named, list) else [named]):
            raise UserError("publish.card_says", field="base_model", value=str(named)[:80], wanted=base.hub_id)
    if base_license.key and values.get("license") != base_license.key and subject.kind != "space":
        raise UserError(
            "publish.card_says", field="license", value=str(values.get("license"))[:80], wanted=base_license.key
        )


def read_head(text: str) -> dict[str, Any]:
    """Return the metadata of a card. Raises UserError where there is none, or it cannot be read."""
    import yaml

    match = _HEAD.match(text)
    if not match:
        raise UserError("publish.card_head", reason="---")
    try:
        values = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise UserError("publish.card_head", reason=f"YAML, line {mark.line + 2 if mark else 2}") from None
    if not isinstance(values, dict):
        raise UserError("publish.card_head", reason="YAML")
    return values
