"""Facts of a run for its card: its base model, data, curves, settings and environment."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core import settings
from core.errors import UserError
from core.files import read_json
from core.references import Folder, Hub, StandIn, parse
from core.words import say
from core.workspace import Owner, dataset_folder
from finetune.config.run_config import RunConfig, Stage
from finetune.publish.repo.destination import Destination
from finetune.publish.repo.scan import PlannedFile
from finetune.runs.events import RunProgress
from finetune.runs.run import Run

CURVE_ROWS = 12
_DECODING = (
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "num_beams",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "length_penalty",
    "max_new_tokens",
    "max_length",
)
_LICENSES = {"HuggingFaceTB/SmolLM2-": "apache-2.0"}


@dataclass(frozen=True)
class BaseFacts:
    """The model a run was trained on.

    `hub_id` is its repository (None for a folder of this machine), `name` what the card calls it. With `stand_in`
    the weights were the stand-in's, and `hub_id` names the model it stands in for.
    """

    reference: str
    hub_id: str | None
    name: str
    revision: str | None
    fingerprint: str | None
    stand_in: bool


@dataclass(frozen=True)
class License:
    """A license as the Hub's cards name it; `name` and `link` go with "other". `key` None: not known."""

    key: str | None = None
    name: str | None = None
    link: str | None = None


UNKNOWN = License()


@dataclass(frozen=True)
class DataFacts:
    """Counts of one dataset, never its rows. `findings` are (what was found, severity, how many rows)."""

    name: str
    hub_id: str | None
    fingerprint: str
    kind: str
    format: str
    rows_in: int
    rows_kept: int
    findings: list[tuple[str, str, int]]


@dataclass(frozen=True)
class CurveRow:
    """Figures of one step; `stage` counts from 1, None where the run has but one."""

    step: int
    stage: int | None
    loss: float | None
    eval_loss: float | None
    learning_rate: float | None


def check_done(run: Run) -> None:
    """Raise UserError for a run that has no result yet."""
    status = run.status().status
    if status != "done":
        raise UserError("publish.not_done", run=run.id, status=say(f"publish.status.{status}"))


def base_of(run: Run, owner: Owner) -> BaseFacts:
    """Return the base model that the run recorded when it started."""
    recorded = run.environment()
    text = str(recorded.get("base") or run.config().model)
    reference, fingerprint = parse(text, owner), recorded.get("fingerprint")
    if isinstance(reference, StandIn):
        return BaseFacts(text, settings.DEFAULT_MODEL, settings.STANDIN, None, fingerprint, True)
    if isinstance(reference, Hub):
        revision = reference.revision or _revision(recorded.get("revision"))
        return BaseFacts(text, reference.repo_id, reference.repo_id, revision, fingerprint, False)
    if isinstance(reference, Folder):
        return BaseFacts(text, None, reference.path.name, None, fingerprint, False)
    raise UserError("core.not_a_base", value=text[:80])


def _revision(value: object) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{7,64}", value) else None


def known_license(base: BaseFacts, owner: Owner) -> License:
    """Return the license of the base model as far as this machine knows it, without asking the Hub."""
    for beginning, key in _LICENSES.items():
        if (base.hub_id or "").startswith(beginning):
            return License(key)
    reference = parse(base.reference, owner)
    return _card_license(reference.path / "README.md") if isinstance(reference, Folder) else License()


def _card_license(card: Path) -> License:
    import yaml

    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    if not text.startswith("---"):
        return License()
    try:
        head = yaml.safe_load(text.split("---")[1])
    except yaml.YAMLError:
        return License()
    return license_from(head if isinstance(head, dict) else {})


def license_from(head: dict[str, Any]) -> License:
    """Return the license in the head of a card."""
    key = head.get("license")
    if not isinstance(key, str) or not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,60}", key):
        return License()
    named = [
        head.get(field) if isinstance(head.get(field), str) else None for field in ("license_name", "license_link")
    ]
    return License(key, *named)


def data_of(config: RunConfig, owner: Owner) -> list[DataFacts]:
    """Return what the import found in each dataset; a dataset that is gone is skipped."""
    ids = [source.dataset for stage in config.stages for source in stage.data if source.dataset]
    return [facts for facts in (_dataset(dataset_id, owner) for dataset_id in ids) if facts]


def _dataset(dataset_id: str, owner: Owner) -> DataFacts | None:
    from finetune.data.store import open_dataset

    try:
        dataset = open_dataset(dataset_folder(owner, dataset_id))
    except UserError:
        return None
    report = dataset.report
    return DataFacts(
        name=Path(dataset.name).name,
        hub_id=dataset.hub_id,
        fingerprint=dataset.id,
        kind=report.kind,
        format=report.format,
        rows_in=report.rows_in,
        rows_kept=report.rows_kept,
        findings=[(finding.title, finding.severity, len(finding.rows)) for finding in report.findings],
    )


def curve_of(run: Run) -> list[CurveRow]:
    """Return the losses at up to twelve steps, evenly spread, validation steps first."""
    progress = run.progress()
    steps = _spread(sorted(progress.evals), CURVE_ROWS)
    others = sorted(set(progress.train) - set(steps))
    steps = sorted({*steps, *_spread(others, CURVE_ROWS - len(steps))})
    several = len((progress.started or {}).get("stages") or []) > 1
    return [
        CurveRow(
            step,
            _stage_at(progress, step) if several else None,
            progress.train.get(step, {}).get("loss"),
            progress.evals.get(step, {}).get("eval_loss"),
            progress.train.get(step, {}).get("learning_rate"),
        )
        for step in steps
    ]


def _stage_at(progress: RunProgress, step: int) -> int:
    event = progress.train.get(step) or progress.evals[step]
    return int(event.get("stage") or 0) + 1


def _spread(steps: list[int], most: int) -> list[int]:
    """Return up to `most` of the steps, evenly spread, with the first and the last."""
    if len(steps) <= most:
        return steps
    if most < 2:
        return steps[-most:] if most else []
    return [steps[round(index * (len(steps) - 1) / (most - 1))] for index in range(most)]


def settings_of(config: RunConfig) -> list[tuple[str, str]]:
    """Return the settings that shaped the result, as (path, value); no data, no prompts, nothing that names a
    machine."""
    chosen = config.model_dump(mode="json", exclude_none=True, exclude={"model", "stages", "watch", "compute", "optim"})
    stages = [_stage(config, stage) for stage in config.stages]
    if len(stages) == 1:
        return _flat({**stages[0], **chosen})
    shared = {name: value for name, value in stages[0]["optim"].items() if _alike(stages, name)}
    own = [_without(stage, shared) for stage in stages]
    return _flat({**chosen, "optim": shared} | {f"stage {number}": stage for number, stage in enumerate(own, 1)})


def _stage(config: RunConfig, stage: Stage) -> dict[str, Any]:
    optim = config.optim_of(stage).model_dump(mode="json", exclude_none=True)
    return {"objective": stage.objective, stage.objective: stage.settings.model_dump(mode="json"), "optim": optim}


def _alike(stages: list[dict[str, Any]], name: str) -> bool:
    """Return whether a setting of the optimizer is the same in all stages."""
    return all(stage["optim"].get(name) == stages[0]["optim"][name] for stage in stages)


def _without(stage: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    return {**stage, "optim": {name: value for name, value in stage["optim"].items() if name not in shared}}


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", str(value))]
    return rows


def decoding_of(model: Path) -> list[tuple[str, str]]:
    """Return the decoding settings in a model's `generation_config.json`."""
    path = model / "generation_config.json"
    return decoding_in(read_json(path) if path.is_file() else {})


def decoding_in(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the settings of a `generation_config.json` that shape the generated text."""
    return [(name, str(values[name])) for name in _DECODING if values.get(name) is not None]


def environment_of(run: Run) -> list[tuple[str, str]]:
    """Return what the run ran on: device, precision, versions."""
    recorded = run.environment()
    versions = recorded.get("versions")
    rows = [(name, str(recorded[name])) for name in ("device", "dtype") if recorded.get(name)]
    return rows + [(str(name), str(version)) for name, version in sorted((versions or {}).items())]


@dataclass(frozen=True)
class Sample:
    """A text that the tuned model generated from a prompt, and the strategy that chose its tokens; `base`: the base
    model generated it."""

    prompt: str
    text: str
    strategy: str = "greedy"
    base: bool = False


@dataclass(frozen=True)
class Subject:
    """The subject of a card: what is published (a run; a dataset brings its own card), where it goes, the base model
    and its license, the kind with its facts, and samples that a person chose."""

    run: Any
    to: Destination
    base: Any
    license: License
    files: list[PlannedFile]
    kind: str = "adapter"
    facts: dict[str, Any] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()

    @property
    def repo_id(self) -> str:
        return self.to.repo_id

    @property
    def name(self) -> str:
        return self.repo_id.split("/")[1]

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
