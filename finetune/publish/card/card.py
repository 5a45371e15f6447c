"""The model card: the facts of a run in the sentences of `card.md.jinja`, with every value escaped."""

import json
import re
import unicodedata
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.words import speaking
from core.workspace import Owner
from finetune.config.run_config import RunConfig
from finetune.methods import METHODS
from finetune.publish.card import facts, measures
from finetune.publish.card.before_after import BeforeAfter, before_after_of
from finetune.publish.card.facts import BaseFacts, Subject
from finetune.publish.card.languages import languages
from finetune.publish.card.literature import METHOD_NAMES, Paper, objective_name, papers_of
from finetune.publish.card.metadata import head
from finetune.runs.run import Run
from finetune.runs.stage_report import StageReport, reports

_LONGEST_VALUE = 160
_LONGEST_SAMPLE, _MOST_LINES = 1200, 24
"""Characters and lines of a text that a card shows."""
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;", ":": "&#58;"}
_WWW = re.compile(r"(www)\.", re.IGNORECASE)
_MARKUP = re.compile(r"([\\`*_\[\](){}#!|~$^=+])")
_BLOCK = re.compile(r"( *)(?:(-)|(\d{1,9})(\.))?(.*)", re.DOTALL)
"""What starts a Markdown block at the beginning of a line: an indent, a dash, a number with a point."""


class Trusted(str):
    """Text of the program itself, in which markup is meant."""


def harmless(value: object, longest: int = _LONGEST_VALUE) -> str:
    """Return a value as one line of Markdown that shows literally and does nothing: no markup, HTML, mentions, links.

    Nor the links that GitHub's Markdown makes of bare text (https://github.github.com/gfm/#autolinks-extension-).
    """
    if isinstance(value, Trusted):
        return value
    line = "".join(" " if character.isspace() else character for character in str(value))
    line = "".join(character for character in line if unicodedata.category(character)[0] != "C")
    line = line if len(line) <= longest else line[: longest - 1] + "…"
    line = "".join(_ENTITIES.get(character, character) for character in line)
    line = _MARKUP.sub(r"\\\1", line).replace("&\\#", "&#")
    return _WWW.sub(r"\1&#46;", line)


def render(subject: Subject, owner: Owner) -> str:
    """Return the complete README.md, in English."""
    with speaking("en"):
        run = subject.run
        config = run.config()
        datasets = facts.data_of(config, owner)
        spoken = languages(measures.texts_of(config, owner))
        hub_datasets = [data.hub_id for data in datasets if data.hub_id]
        names = {file.path for file in subject.files}
        values = {
            "head": Trusted(head(subject, hub_datasets, spoken)),
            "kind": subject.kind,
            "title": subject.name,
            "method": Trusted(METHOD_NAMES[config.method]),
            "by_adapter": METHODS[config.method].adapter,
            "stages": _stages(config, run),
            "literature": [(paper, Trusted(_arxiv(paper))) for paper in papers_of(config)],
            "adapter": subject.adapter,
            "base": _shown(subject.base),
            "base_link": Trusted(_link(subject.base)),
            "ways": [(title, language, Trusted(text)) for title, language, text in ways(subject)],
            "decoding": _decoding(subject),
            "samples": [*subject.samples, *measures.samples_of(run)],
            "datasets": datasets,
            "languages": spoken,
            "max_rows": config.limits.max_rows,
            "max_length": config.limits.max_length,
            "settings": facts.settings_of(config),
            "changed": measures.changed_of(config),
            "recipe": Trusted(measures.recipe_of(config, subject.base)),
            "curve": facts.curve_of(run),
            "pictures": [name for name in ("loss.png", "learning-rate.png") if name in names],
            "kept": run.progress().kept,
            "measured": measures.measured_of(run),
            "compared": _compared(run),
            "environment": facts.environment_of(run),
            "run_id": run.id,
            "license": subject.license,
            "papers": sorted(name for name in names if name.startswith(("LICEN", "NOTICE", "USE_POLICY"))),
            "facts": subject.facts,
        }
        return _template("card.md.jinja").render(values)


def _stages(config: RunConfig, run: Run) -> list[tuple[str, StageReport | None]]:
    """Return the objective of each stage, by its name in the field, with the stage's report where there is one."""
    found = reports(run.progress())
    known = found if len(found) == len(config.stages) else [None] * len(config.stages)
    return [(objective_name(stage), report) for stage, report in zip(config.stages, known, strict=True)]


def _arxiv(paper: Paper) -> str:
    return f"[arXiv:{paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})"


def _compared(run: Run) -> BeforeAfter | None:
    """Return the run's evaluation; its sentences are the program's own, with numbers in them."""
    found = before_after_of(run)
    return found and replace(found, sentences=[Trusted(sentence) for sentence in found.sentences])


def _decoding(subject: Subject) -> list[tuple[str, str]]:
    """Return the decoding settings of the published `generation_config.json`; without one, those of the run's own."""
    files = [file for file in subject.files if file.path == "generation_config.json"]
    return facts.decoding_in(json.loads(files[0].content())) if files else facts.decoding_of(subject.run.model)


def snippet(subject: Subject) -> str:
    """Return Python that loads what was pushed, as `model` and `tokenizer`."""
    base = subject.base
    return snippet_of(
        subject.adapter, subject.repo_id, subject.to.branch, base.hub_id or "path/to/the/base", base.revision
    )


def snippet_of(adapter: bool, repo_id: str, branch: str | None, base_id: str, revision: str | None) -> str:
    """Return the same from names alone; a verification runs it."""
    return _template("load.py.jinja").render(
        adapter=adapter,
        repo_id=Trusted(repo_id),
        branch=Trusted(branch) if branch else None,
        base_id=Trusted(base_id),
        revision=Trusted(revision) if revision else None,
    )


def ways(subject: Subject) -> list[tuple[str, str, str]]:
    """Return how to load it, as (title, language of the code, code), for each way that suits this kind."""
    if subject.kind == "gguf":
        names = sorted(file.path for file in subject.files if file.path.endswith(".gguf"))
        types = [name.removesuffix(".gguf").rsplit("-", 1)[-1] for name in names]
        text = _template("llama.sh.jinja").render(
            repo_id=Trusted(subject.repo_id), type=Trusted((types or ["F16"])[-1])
        )
        return [("llama.cpp and Ollama", "bash", text)]
    if subject.kind == "presets":
        loaded = _template("presets.py.jinja").render(
            repo_id=Trusted(subject.repo_id), base_id=Trusted(subject.base.hub_id or "path/to/the/model")
        )
        return [("transformers", "python", loaded)]
    asked = _template("ask.py.jinja").render(chat=subject.chat)
    title = "PEFT and transformers" if subject.adapter else "transformers"
    served = _template("serve.sh.jinja").render(
        adapter=subject.adapter,
        repo_id=Trusted(subject.repo_id),
        base_id=Trusted(subject.base.hub_id or "path/to/the/base"),
        name=Trusted(subject.name),
        rank=subject.run.config().lora.rank if subject.adapter else 0,
    )
    return [(title, "python", f"{snippet(subject)}\n\n{asked}"), ("vLLM", "bash", served)]


@lru_cache(maxsize=16)
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
    environment.filters["quoted"] = _quoted
    return environment.get_template(name)


def _quoted(text: str) -> Trusted:
    """Return a text of several lines as a quotation without markup; a long text is truncated with an ellipsis."""
    text = text.strip()
    lines = text[:_LONGEST_SAMPLE].splitlines() or [""]
    shown = [_in_quotation(line) for line in lines[:_MOST_LINES]]
    if len(text) > _LONGEST_SAMPLE or len(lines) > _MOST_LINES:
        shown[-1] += "…"
    return Trusted("\n".join(f"> {line}  " for line in shown))


def _in_quotation(line: str) -> str:
    """Return a line that starts no Markdown block: no indented code, list, rule or underlined heading."""
    match = _BLOCK.fullmatch(harmless(line, _LONGEST_SAMPLE))
    assert match is not None, "it fits everything"
    indent, dash, number, point, rest = match.groups(default="")
    return "&nbsp;" * len(indent) + (dash and "\\-") + number + (point and "\\.") + rest


def _link(base: BaseFacts) -> str:
    return f"[{base.hub_id}](https://huggingface.co/{base.hub_id})" if base.hub_id else f'"{harmless(base.name)}"'


def _shown(base: BaseFacts) -> BaseFacts:
    """Return the base model with its fixed values marked as trusted, so that they appear unchanged between
    backticks."""
    fixed = ["fingerprint", "revision", *(["name"] if base.stand_in else [])]
    marked: dict[str, Any] = {
        name: Trusted(getattr(base, name)) for name in fixed if re.fullmatch(r"[\w.-]+", getattr(base, name) or "")
    }
    return replace(base, **marked)


def proof_section(proof: dict[str, Any]) -> str:
    """Return the card's section on a verification (see `in_card`)."""
    difference = proof["logits_max_difference"]
    marked = {**proof, "revision": Trusted(proof["revision"])}
    return _template("proof.md.jinja").render(
        proof=marked,
        difference=Trusted("" if difference is None else f"{difference:.3g}"),
        limit=Trusted(f"{proof['tolerance']:.0e}"),
    )
