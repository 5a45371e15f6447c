"""The model card: what a run is, in the words of `card.md.jinja`, with every value made harmless."""

import re
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.words import speaking
from core.workspace import Owner
from finetune.publish import facts
from finetune.publish.facts import Base, Licence
from finetune.publish.files import PlannedFile
from finetune.run import Run

_LONGEST_VALUE = 160
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;", ":": "&#58;"}
_WWW = re.compile(r"(www)\.", re.IGNORECASE)
_MARKUP = re.compile(r"([\\`*_\[\](){}#!|~$^=+])")


class Trusted(str):
    """Text of the program itself, in which markup is meant."""


@dataclass(frozen=True)
class Subject:
    """What a card is about: the run, the repository it goes to, its base and the base's licence."""

    run: Run
    repo_id: str
    base: Base
    licence: Licence
    files: list[PlannedFile]

    @property
    def adapter(self) -> bool:
        return any(file.path == "adapter_config.json" for file in self.files)

    @property
    def chat(self) -> bool:
        """Whether the tokenizer brings a chat template."""
        if any(file.path == "chat_template.jinja" for file in self.files):
            return True
        settings = next((file for file in self.files if file.path == "tokenizer_config.json"), None)
        return settings is not None and b'"chat_template"' in settings.content()


def harmless(value: object) -> str:
    """A value as one line of Markdown that shows itself and does nothing: no markup, HTML, mentions or links.

    Nor the links that GitHub's Markdown makes of bare text (https://github.github.com/gfm/#autolinks-extension-).
    """
    if isinstance(value, Trusted):
        return value
    line = "".join(" " if character.isspace() else character for character in str(value))
    line = "".join(character for character in line if unicodedata.category(character)[0] != "C")
    line = line if len(line) <= _LONGEST_VALUE else line[: _LONGEST_VALUE - 1] + "…"
    line = "".join(_ENTITIES.get(character, character) for character in line)
    line = _MARKUP.sub(r"\\\1", line).replace("&\\#", "&#")
    return _WWW.sub(r"\1&#46;", line)


def render(subject: Subject, owner: Owner) -> str:
    """The whole README.md, in English."""
    with speaking("en"):
        config = subject.run.config()
        datasets = facts.data_of(config, owner)
        values = {
            "head": Trusted(_head(subject, [data.hub_id for data in datasets if data.hub_id])),
            "title": subject.repo_id.split("/")[1],
            "method": "LoRA" if config.method == "lora" else config.method,
            "adapter": subject.adapter,
            "base": _shown(subject.base),
            "base_link": Trusted(_link(subject.base)),
            "snippet": Trusted(snippet(subject)),
            "decoding": facts.decoding_of(subject.run.model),
            "datasets": datasets,
            "max_rows": config.limits.max_rows,
            "settings": facts.settings_of(config),
            "curve": facts.curve_of(subject.run),
            "environment": facts.environment_of(subject.run),
            "run_id": subject.run.id,
            "licence": subject.licence,
        }
        return _template("card.md.jinja").render(values)


def snippet(subject: Subject) -> str:
    """Python that loads what was pushed and lets it answer once."""
    base, python = subject.base, Trusted
    return _template("load.py.jinja").render(
        adapter=subject.adapter,
        repo_id=python(subject.repo_id),
        base_id=python(base.hub_id or "path/to/the/base"),
        revision=python(base.revision) if base.revision else None,
        chat=subject.chat,
    )


def _template(name: str) -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        finalize=harmless,
        autoescape=False,
        keep_trailing_newline=name.endswith(".md.jinja"),
    )
    environment.filters["number"] = lambda value: "" if value is None else f"{value:.4g}"
    return environment.get_template(name)


def _head(subject: Subject, hub_datasets: list[str]) -> str:
    from huggingface_hub import ModelCardData

    base, licence = subject.base, subject.licence
    relation = ("adapter" if subject.adapter else "finetune") if base.hub_id else None
    data = ModelCardData(
        base_model=base.hub_id,
        base_model_relation=relation,
        datasets=hub_datasets or None,
        library_name="peft" if subject.adapter else "transformers",
        license=licence.key,
        license_name=licence.name,
        license_link=licence.link,
        pipeline_tag="text-generation",
        tags=["tunescope", *(["lora"] if subject.adapter else [])],
    )
    return data.to_yaml() + "\n"


def _link(base: Base) -> str:
    return f"[{base.hub_id}](https://huggingface.co/{base.hub_id})" if base.hub_id else f'"{harmless(base.name)}"'


def _shown(base: Base) -> Base:
    """The base with its fixed words marked as such, so that they stand unchanged between backticks."""
    fixed = ["fingerprint", "revision", *(["name"] if base.stand_in else [])]
    marked: dict[str, Any] = {
        name: Trusted(getattr(base, name)) for name in fixed if re.fullmatch(r"[\w.-]+", getattr(base, name) or "")
    }
    return replace(base, **marked)
