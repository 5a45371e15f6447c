"""From a config to the plan of its run."""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.words import say
from core.workspace import Owner, dataset_folder
from finetune.base_models.network import read_network
from finetune.config.device import choose_device, choose_dtype
from finetune.config.run_config import RunConfig, validate
from finetune.config.yaml_reader import apply_change
from finetune.methods import BLOCKS
from finetune.plan import calibration
from finetune.plan.calibration import Trial
from finetune.plan.card import SURE, Advice, PlaceEstimate, RunPlan, smaller
from finetune.plan.estimator import Estimator, device_name_of
from finetune.plan.machines import Flavor, memory_of
from finetune.plan.prepare import OnProgress, RunInputs
from finetune.plan.rows import SAMPLE, StageRows, shapes, tokenize_stage

if TYPE_CHECKING:
    from inference.models.types import Fetched


_TRIED = 0.75
"""The part of the free memory that a trial may take by the estimate: above it, the trial uses a smaller batch."""


def plan_of(
    inputs: RunInputs,
    owner: Owner,
    *,
    calibrate: bool = False,
    flavors: list[Flavor] | None = None,
    progress: OnProgress | None = None,
    stop: threading.Event | None = None,
) -> RunPlan:
    """Return the plan of a run. With `calibrate` its first steps are tried out on this machine, which can be stopped;
    otherwise the plan is rough, or uses an earlier calibration.

    Raises UserError where nothing is left to learn from, or the trial failed.
    """
    planner = Planner.read(inputs, owner)
    if calibrate:
        planner.calibrate(progress, stop)
    return planner.plan(flavors)


@dataclass
class Planner:
    """The inputs of a plan, read once."""

    inputs: RunInputs
    stages: list[StageRows]
    estimator: Estimator

    @classmethod
    def read(cls, inputs: RunInputs, owner: Owner, most: int = SAMPLE) -> "Planner":
        """Tokenize and count at most about `most` rows per stage. Raises UserError where nothing is left to learn
        from."""
        from inference.models.locate import load_tokenizer

        config, base = inputs.config, inputs.base
        network, tokenizer = read_network(config, base.folder), load_tokenizer(base.folder)
        stages = [
            tokenize_stage(config, stage, datasets, tokenizer, not network.packs, most)
            for stage, datasets in zip(config.stages, inputs.datasets, strict=True)
        ]
        stage_shapes = [shapes(config, stage, rows) for stage, rows in zip(config.stages, stages, strict=True)]
        device = choose_device(config)
        dtype = str(choose_dtype(config, device)).removeprefix("torch.")
        planner = cls(
            inputs, stages, Estimator(config, network, stage_shapes, device.type, dtype, base.folder, owner.runs)
        )
        planner.estimator.measured = calibration.cached_calibration(planner.key)
        return planner

    @property
    def key(self) -> str:
        """The cache key of the calibration."""
        estimator = self.estimator
        device = f"{estimator.device} {device_name_of(estimator.device)} {estimator.dtype}"
        return calibration.key_of(estimator.config, self.inputs.base.fingerprint, device)

    def calibrate(self, progress: OnProgress | None = None, stop: threading.Event | None = None) -> None:
        """Try out the first steps on this machine, unless they were measured before. Raises UserError where that
        failed."""
        if self.estimator.measured is not None:
            return
        size = self._trial_batch()
        given = zip(self.inputs.config.stages, self.stages, self.estimator.shapes, strict=True)
        trials = [Trial(stage, rows, shape, self._prompts(rows)) for stage, rows, shape in given]
        self.estimator.measured = calibration.calibrate(
            self.inputs.config, self.inputs.base, trials, self.key, size, progress, stop
        )

    def _trial_batch(self) -> int:
        """Return the largest batch size that certainly fits into the free memory. Raises UserError where a single row
        does not."""
        size, free = self.estimator.batch_size, memory_of(self.estimator.device).free
        while self.estimator.estimated_memory(self.estimator.compute_settings(), size).peak > _TRIED * free:
            if size == 1:
                raise self._too_much_memory(self.estimator.here()).error()
            size = -(-size // 2)
        return size

    def _prompts(self, rows: StageRows) -> list[dict[str, Any]]:
        """Return the prompts that the run would answer at each evaluation."""
        from finetune.training.attempt import load_tokenizer
        from finetune.training.sampling import row_prompt, typed_prompt

        tokenizer = load_tokenizer(self.inputs.base.folder)
        typed = [typed_prompt(text, tokenizer) for text in self.inputs.config.watch.samples]
        prompts = typed or [row_prompt(rows.first, tokenizer)]
        return [{"text": prompt.text, "ids": list(prompt.ids)} for prompt in prompts]

    def plan(self, flavors: list[Flavor] | None = None) -> RunPlan:
        """Return the plan, with an estimate for each of the machines for rent."""
        estimator, here = self.estimator, self.estimator.here()
        batches = [shape.steps * shape.accumulation for shape in estimator.shapes]
        given = list(zip(estimator.shapes, batches, strict=True))
        return RunPlan(
            model=self.inputs.base.name,
            method=estimator.config.method,
            device=estimator.device,
            dtype=estimator.dtype,
            trainable=estimator.network.trainable,
            total=estimator.network.total,
            rows=sum(rows.of for rows in self.stages),
            held=sum(rows.held_count for rows in self.stages),
            seen=sum(rows.seen for rows in self.stages),
            tokens=round(sum(shape.tokens / shape.an_epoch * count for shape, count in given)),
            padded=round(sum(shape.padded * count for shape, count in given)),
            steps=sum(shape.steps for shape in estimator.shapes),
            largest=max((shape.largest for shape in estimator.shapes), key=lambda batch: batch[0] * batch[1]),
            here=here,
            rented=tuple(estimator.rented(flavor) for flavor in flavors or ()),
            advice=self.advice(here),
            notes=self._notes(),
        )

    def advice(self, here: PlaceEstimate) -> tuple[Advice, ...]:
        """Return what does not fit this machine, with settings that would."""
        found = []
        assert here.free is not None and here.disk_free is not None, "of this machine both are known"
        if here.memory > here.free:
            found.append(self._too_much_memory(here))
        if here.disk > here.disk_free:
            facts = {"needed": _amount(here.disk), "free": _amount(here.disk_free), "folder": self.estimator.runs}
            changes = {} if self.estimator.network.adapter else {"method": "lora"}
            found.append(Advice("plan.disk", facts, True, changes, nothing="plan.no_disk_change"))
        return tuple(found)

    def _too_much_memory(self, here: PlaceEstimate) -> Advice:
        """Return the advice on memory: refused where the run needs more than the machine has in total; otherwise a
        warning, since memory may be freed before the run starts."""
        assert here.room is not None and here.free is not None
        facts = {
            "needed": _gb(here.memory),
            "free": _gb(here.free),
            "room": _gb(here.room),
            "batch": self.estimator.batch_size,
            "length": self.estimator.longest,
            "method": self.estimator.config.method,
        }
        surely = here.memory / (1 if self.estimator.measured else SURE) > here.room
        changes = smaller(self.estimator.config, self.estimator.longest, self._bytes_with, here.free)
        return Advice("plan.memory", facts, surely, changes)

    def _bytes_with(self, settings: dict[str, Any]) -> float:
        """Return the peak bytes on this machine with other settings."""
        config, now = with_settings(self.estimator.config, settings), self.estimator.config
        network = read_network(config, self.inputs.base.folder) if config.method != now.method else None
        return self.estimator.memory_here(config, network)

    def _notes(self) -> tuple[str, ...]:
        """Return what a reader should know about the figures."""
        notes = [say("plan.sampled", seen=rows.seen, of=rows.of) for rows in self.stages if not rows.exact]
        if not any(rows.held_count for rows in self.stages):
            notes.append(say("plan.nothing_held_out"))
        measured = self.estimator.measured
        if measured and measured.batch_size < self.estimator.batch_size:
            notes.append(say("plan.smaller_trial", batch=measured.batch_size))
        if measured and not measured.alone:
            notes.append(say("plan.not_alone"))
        return tuple(notes)


def with_settings(config: RunConfig, settings: dict[str, Any]) -> RunConfig:
    """Return a config with other settings, by path; remove the blocks of a method that is no longer chosen, and a
    stage's own value of the same knob."""
    raw = config.model_dump(mode="json", exclude_none=True)
    if "method" in settings:
        raw = {name: value for name, value in raw.items() if name not in BLOCKS}
    for path, value in settings.items():
        apply_change(raw, f"{path}={str(value).lower() if isinstance(value, bool) else value}")
        block, _, knob = path.partition(".")
        for stage in raw["stages"] if block == "optim" else ():
            (stage.get("optim") or {}).pop(knob, None)
    return validate(raw)


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f}"


def _amount(count: float) -> str:
    """Return bytes with their unit: for a small model on a full disk, megabytes matter."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


LOOKED_AT = 300
"""How many rows of a stage are tokenized: a start does not wait for more."""


def plan_for_start(config: RunConfig, owner: Owner, base: "Fetched") -> RunPlan:
    """Return the plan of a run that is about to start, with an earlier calibration if there is one. Raises UserError
    where nothing is left to learn from, or the run certainly does not fit into this machine's memory or disk."""
    from finetune.data.store import open_dataset

    datasets = [
        [open_dataset(dataset_folder(owner, source.dataset or "")) for source in stage.data] for stage in config.stages
    ]
    plan = Planner.read(RunInputs(config, datasets, base), owner, LOOKED_AT).plan()
    refused = next((advice for advice in plan.advice if advice.refused), None)
    if refused is not None:
        raise refused.error()
    return plan
