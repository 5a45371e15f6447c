"""Compares a finished run with its base on the same rows, tokens and labels.

Loss and perplexity of the held-out rows, with bootstrap intervals and the paired difference; the same for a general
text, to measure forgetting; an n-gram model of the training text as a baseline; a few answers side by side. The report
is saved in the run (`evaluation.json`).
"""

import importlib.metadata
import platform
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.references import parse, resolve
from core.rows import Row
from core.words import say
from core.workspace import Owner
from finetune.evaluation.measures import compared, verdict
from finetune.evaluation.report import VERSION, EvaluationReport, save, weights_of
from finetune.evaluation.row_sets import EvaluationRequest, RowSet, row_sets, sample_rows, training_rows
from finetune.runs.run import Run
from inference.measures.bootstrap import ratio
from inference.models.types import Progress, Source

if TYPE_CHECKING:
    from finetune.evaluation.losses import Prepared, Tell
    from finetune.evaluation.ngram import NgramModel
    from inference.models.cache import Shelf
    from inference.models.loading import Loaded

SAMPLES = 4
NGRAM_TOKENS, NGRAM_ROWS = 400_000, 20_000
_ROWS_AT_A_TIME = 200
_PACKAGES = ("torch", "transformers", "peft", "nltk")


@dataclass(frozen=True)
class EvaluationContext:
    """The surroundings of an evaluation: the shelf of loaded models, the progress callback, the stop event.

    `turn` is entered for each step on a model, so that other users of the models can go in between.
    """

    shelf: "Shelf"
    progress: Callable[[Progress], None] = lambda progress: None
    stop: threading.Event = field(default_factory=threading.Event)
    turn: Callable[[], AbstractContextManager[Any]] = nullcontext

    def tell(self, progress: Progress) -> None:
        """Report the progress. Raises UserError if a stop was requested."""
        if self.stop.is_set():
            raise UserError("evaluate.stopped")
        self.progress(progress)

    def phase(self, text: str) -> "Tell":
        return lambda done, total: self.tell(Progress(text, done, total, "steps"))


def evaluate(run: Run, owner: Owner, request: EvaluationRequest, context: EvaluationContext) -> EvaluationReport:
    """Measure a finished run, save the report in it and return it.

    Raises UserError where `row_sets` does, before anything is loaded; where the base is missing or its weights changed;
    where no row has anything to learn; and after `stop` is set.
    """
    sets = row_sets(run, owner, request)
    source, base = _sources(run, owner, context)
    context.tell(Progress(say("evaluate.loading")))
    work = _Work(run, context, context.shelf.get(Source(base.base)), context.shelf.get(source))
    prepared = [work.prepared(rows) for rows in sets]
    held = [(rows, tokens) for rows, tokens in zip(sets, prepared, strict=True) if rows.stage and tokens.rows]
    if not held:
        raise UserError("evaluate.no_labels", rows=len(sets[0].rows), length=work.max_length)
    measured = [work.measured(rows, tokens) for rows, tokens in zip(sets, prepared, strict=True) if tokens.rows]
    report = work.head() | {"sets": measured, "samples": work.samples(*held[-1])}
    save(run, report)
    return report


def _sources(run: Run, owner: Owner, context: EvaluationContext) -> tuple[Source, Source]:
    """Return the tuned model and its base with their files on disk. Raises UserError where the base changed."""
    from inference.models.locate import fetch, locate

    mine = run.folder.parent == owner.runs
    tuned = locate(run.id if mine else str(run.folder), owner, progress=context.tell, stop=context.stop)
    if tuned.adapter is not None:
        return tuned, Source(tuned.base)
    recorded = run.environment()
    reference = resolve(parse(str(recorded["base"]), owner), owner).base
    base = fetch(reference, owner.token, owner=owner, progress=context.tell, stop=context.stop)
    if recorded.get("fingerprint") not in (None, base.fingerprint):
        facts = {"now": base.fingerprint[:12], "then": str(recorded["fingerprint"])[:12]}
        raise UserError("evaluate.base_changed", value=run.id, base=base.name, **facts)
    return tuned, Source(base)


class _Work:
    """One evaluation: the run, its two models, and the tokens of their rows."""

    def __init__(self, run: Run, context: EvaluationContext, base: "Loaded", tuned: "Loaded") -> None:
        self.run, self.context, self.base, self.tuned = run, context, base, tuned
        self.config = run.config()
        self.max_length = min(self.config.limits.max_length, base.context_length)

    def head(self) -> dict[str, Any]:
        """Return the head of the report: the models compared, the hardware and the software versions."""
        import torch

        from finetune.config.device import device_name

        versions = {package: importlib.metadata.version(package) for package in _PACKAGES}
        device = self.base.device
        return {
            "version": VERSION,
            "run": self.run.id,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "base": {"name": self.base.name, "fingerprint": self.base.fingerprint},
            "tuned": {"method": self.config.method, "fingerprint": weights_of(self.run.model)},
            "dtype": self.base.dtype,
            "device": device,
            "device_name": device_name(torch.device(device)),
            "seed": self.config.seed,
            "versions": {"python": platform.python_version(), **versions},
        }

    def prepared(self, rows: RowSet) -> "Prepared":
        """Return the rows of a set as tokens, encoded as in the run."""
        from finetune.evaluation.losses import prepare

        self.context.tell(Progress(say("evaluate.tokenising")))
        return prepare(rows.rows, rows.measured_as, self.tuned.tokenizer, self.max_length, rows.learn)

    def measured(self, rows: RowSet, prepared: "Prepared") -> dict[str, Any]:
        """Return the measures of a set and, for held-out rows, those of the n-gram model."""
        base, tuned = (self._losses(prepared, model) for model in (self.base, self.tuned))
        measures = [compared(measure, base, tuned, prepared.counts) for measure in rows.measured_as.measures]
        ngram = self._ngram(rows, prepared, tuned[0]) if rows.stage else None
        return self._about(rows, prepared) | {"measures": measures, "ngram": ngram}

    def _about(self, rows: RowSet, prepared: "Prepared") -> dict[str, Any]:
        return {
            "key": rows.key,
            "name": rows.name,
            "kind": rows.kind,
            "stage": rows.number,
            "objective": rows.stage.objective if rows.stage else None,
            "rows": rows.available,
            "taken": len(rows.rows),
            "measured": len(prepared.rows),
            "dropped": prepared.dropped,
            "cut": prepared.cut,
            "tokens": prepared.tokens,
            "max_length": self.max_length,
        }

    def _losses(self, prepared: "Prepared", model: "Loaded") -> list[list[float]]:
        """Return the losses of each side's rows."""
        from finetune.evaluation.losses import row_losses

        tell = self.context.phase(say("evaluate.base" if model is self.base else "evaluate.tuned"))
        return [row_losses(model, side, tell, self.context.turn) for side in prepared.sides]

    def _ngram(self, held: RowSet, prepared: "Prepared", tuned: list[float]) -> dict[str, Any] | None:
        """Return the loss of an n-gram model of a stage's training text on the held-out tokens, and the tuned model's
        difference to it."""
        from finetune.evaluation.ngram import NgramModel

        assert held.stage is not None, "only what a stage held out has a training text"
        rows, available = training_rows(self.run, self.config, held.stage, NGRAM_ROWS)
        model = NgramModel(self.base.model.config.get_text_config().vocab_size)
        used = self._count(rows, held, model)
        if not model.tokens:
            return None
        losses = [model.loss(row.input_ids, row.labels) for row in prepared.sides[0]]
        counts = [float(count) for count in prepared.counts[0]]
        difference = ratio([mine - theirs for mine, theirs in zip(tuned, losses, strict=True)], counts)
        found = ratio(losses, counts)
        assert found is not None and difference is not None, "there are rows"
        return {
            "order": model.order,
            "discount": round(model.discount, 4),
            "rows": used,
            "of_rows": available,
            "tokens": model.tokens,
            "loss": found.to_json(),
            "tuned_difference": difference.to_json(),
            "verdict": verdict(difference, lower_is_better=True),
        }

    def _count(self, rows: list[Row], held: RowSet, model: "NgramModel") -> int:
        """Let the model count rows until it has `NGRAM_TOKENS` tokens. Returns how many rows it used."""
        from finetune.evaluation.losses import prepare

        used, tell = 0, self.context.phase(say("evaluate.counting"))
        while used < len(rows) and model.tokens < NGRAM_TOKENS:
            tell(used, len(rows))
            part = rows[used : used + _ROWS_AT_A_TIME]
            prepared = prepare(part, held.measured_as, self.tuned.tokenizer, self.max_length, held.learn)
            for row in prepared.sides[0]:
                model.add(row.input_ids)
            used += len(part)
        return used

    def samples(self, held: RowSet, prepared: "Prepared") -> list[dict[str, str]]:
        """Return a few held-out prompts with the answers of both models."""
        from finetune.evaluation.samples import samples

        learned = held.measured_as.sides[0]
        rows = [learned(row) for row in sample_rows(prepared.rows, len(prepared.rows), SAMPLES, self.config.seed)]
        tell = self.context.phase(say("evaluate.writing"))
        return samples(rows, self.base, self.tuned, self.context.stop, tell, self.context.turn)
