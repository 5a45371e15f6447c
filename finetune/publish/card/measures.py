"""Measurements, samples, changed settings and the config of a run, for its card."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from core.errors import UserError
from core.workspace import Owner, dataset_folder
from finetune.config.run_config import RunConfig, Stage, knobs, stage_knobs, to_yaml
from finetune.objectives import OBJECTIVES
from finetune.publish.card.facts import BaseFacts, Sample
from finetune.runs.run import Run
from finetune.runs.stage_report import reports

_LOOKED_AT, _SAMPLES = 200, 4
_LARGEST_LOSS = 20


@dataclass(frozen=True)
class HeldOutLosses:
    """The loss on the held-out rows before and after the run's last stage, with its steps (the first None where it was
    measured once). `likelihood`: it is the loss of the next token, so that exp(loss) is a perplexity."""

    first_step: int | None
    first_loss: float | None
    last_step: int
    last_loss: float
    likelihood: bool = True

    @property
    def last_perplexity(self) -> float | None:
        return perplexity(self.last_loss) if self.likelihood else None

    @property
    def first_perplexity(self) -> float | None:
        return perplexity(self.first_loss) if self.likelihood else None


def _number(value: float | None) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def perplexity(loss: float | None) -> float | None:
    """Return exp(loss); None where that is too large to be useful."""
    return math.exp(loss) if loss is not None and loss < _LARGEST_LOSS else None


def measured_of(run: Run) -> HeldOutLosses | None:
    """Return the measurements on held-out rows; None where there are none. Losses of different stages are not
    compared."""
    last = next((stage for stage in reversed(reports(run.progress())) if _number(stage.after)), None)
    if last is not None and last.after is not None and last.measured is not None:
        first = last.first_step if _number(last.before) else None
        likelihood = not OBJECTIVES[last.objective].pairs
        return HeldOutLosses(first, last.before if first is not None else None, last.measured, last.after, likelihood)
    losses = {step: event.get("eval_loss") for step, event in sorted(run.progress().evals.items())}
    known = [(step, loss) for step, loss in losses.items() if isinstance(loss, int | float) and math.isfinite(loss)]
    if not known:
        return None
    first_step, first_loss = known[0] if len(known) > 1 else (None, None)
    return HeldOutLosses(first_step, first_loss, *known[-1])


def samples_of(run: Run) -> list[Sample]:
    """Return the samples of the last step that wrote any, decoded greedily as in training."""
    samples = run.progress().samples
    last = samples[max(samples)] if samples else []
    return [Sample(str(event.get("prompt", "")), str(event.get("text", ""))) for event in last[:_SAMPLES]]


def changed_of(config: RunConfig) -> list[tuple[str, str, str]]:
    """Return the settings that differ from their defaults, as (path, value, default)."""
    defaults = {knob.path: knob.default for knob in knobs()}
    chosen = config.model_dump(mode="json", exclude={"model", "stages", "watch", "compute"})
    return [
        (path, str(value), str(defaults[path]))
        for path, value in _flat(chosen)
        if path in defaults and value is not None and value != defaults[path]
    ] + [change for number, stage in enumerate(config.stages, 1) for change in _changed_in(config, stage, number)]


def _changed_in(config: RunConfig, stage: Stage, number: int) -> Iterator[tuple[str, str, str]]:
    """Yield what a stage sets itself: settings of its objective, and of the optimizer where they differ from the
    run's."""
    for knob in stage_knobs()[1:]:
        _, block, name = knob.path.split(".")
        value = getattr(stage.settings, name) if block == stage.objective else knob.default
        if value != knob.default:
            yield f"stage {number}: {block}.{name}", str(value), str(knob.default)
    own, shared = config.given_optim(stage).model_dump(mode="json"), config.optim.model_dump(mode="json")
    for name in (name for name in own if own[name] != shared[name]):
        yield f"stage {number}: optim.{name}", str(own[name]), str(shared[name])


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def recipe_of(config: RunConfig, base: BaseFacts) -> str:
    """Return the config that reproduces the run, as YAML, without sample prompts and what names a machine; a dataset is
    named by its fingerprint."""
    import yaml

    raw = yaml.safe_load(to_yaml(config))
    for name in ("watch", "compute"):
        raw.pop(name, None)
    raw["model"] = (f"{base.hub_id}@{base.revision}" if base.revision else base.hub_id) or base.name
    for stage in raw["stages"]:
        for source in stage.get("data", []):
            if "path" in source:
                source["path"] = "rows.jsonl"
    return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True).rstrip().replace("`", "")


def texts_of(config: RunConfig, owner: Owner) -> Iterator[str]:
    """Yield the texts in the first rows of the datasets, to guess languages from."""
    from finetune.data.store import open_dataset

    for source in (source for stage in config.stages for source in stage.data if source.dataset):
        try:
            rows = open_dataset(dataset_folder(owner, str(source.dataset))).rows(_LOOKED_AT)
        except UserError:
            continue
        for row in rows:
            yield from _texts_in(row.model_dump())


def _texts_in(value: Any) -> Iterator[str]:
    """Yield the texts in a row, without the names of fields and roles."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in ("role", "tools"):
                yield from _texts_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts_in(inner)
    elif isinstance(value, str):
        yield value
