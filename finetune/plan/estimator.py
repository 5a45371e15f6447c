"""The estimates of a plan: memory, seconds and disk of a run, on this machine and on a rented one."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from finetune.base_models.network import Network
from finetune.config.device import cpu_has_bfloat16, device_name
from finetune.config.run_config import RunConfig
from finetune.methods import METHODS
from finetune.plan.calibration import Calibration
from finetune.plan.card import PlaceEstimate
from finetune.plan.durations import Pace, Seconds, due, of_stage, operations
from finetune.plan.machines import START_SECONDS, Flavor, chip_of, free_disk, memory_of, seconds_on
from finetune.plan.memory import ComputeSettings, Memory, activations, memory
from finetune.plan.rows import Shapes

_LOADING = 8.0
"""Approximate seconds until a model is loaded."""
_PACKAGES = 8e9
"""Bytes of the packages that a rented machine installs."""
_TOKEN_BYTES = 5
_FARTHEST = 5.0
"""The largest factor by which measurements may correct the estimate."""

BatchSeconds = Callable[[tuple[int, int], float], float]


@dataclass
class Estimator:
    """The inputs of the estimates: the config, its network and batches, the device ("cpu", "cuda", "mps") and its
    dtype, the folders of the base and of the runs, and the calibration, if there is one."""

    config: RunConfig
    network: Network
    shapes: Sequence[Shapes]
    device: str
    dtype: str
    base: Path
    runs: Path
    measured: Calibration | None = None

    @property
    def width(self) -> int:
        """Bytes of a number in the forward pass on this machine."""
        return 2 if self.dtype == "bfloat16" else 4

    @property
    def batch_size(self) -> int:
        """The largest batch size of all stages."""
        return max(self.config.optim_of(stage).batch_size for stage in self.config.stages)

    @property
    def longest(self) -> int:
        """The length of the longest row in tokens."""
        return max(shape.largest[1] for shape in self.shapes)

    @cached_property
    def stored(self) -> int:
        """Bytes of the base's weights on disk."""
        return sum(path.stat().st_size for path in self.base.glob("*.safetensors"))

    def compute_settings(self, config: RunConfig | None = None) -> ComputeSettings:
        """Return the compute settings of a config (by default the run's) on this machine."""
        config = config or self.config
        return ComputeSettings(
            width=self.width,
            cpu=self.device == "cpu",
            accumulation=max(config.optim_of(stage).gradient_accumulation for stage in config.stages),
            recompute=config.compute.recompute,
            processes=config.compute.processes,
            sharded=config.compute.sharding == "fsdp",
            four_bit=METHODS[config.method].four_bit,
        )

    def estimated_memory(
        self,
        settings: ComputeSettings,
        size: int | None = None,
        config: RunConfig | None = None,
        network: Network | None = None,
    ) -> Memory:
        """Return the memory estimated without measurements, of the stage that takes the most, with batches of at most
        `size` rows."""
        config = config or self.config
        found: list[Memory] = []
        for index, shape in enumerate(self.shapes):
            sequences, length = shape.largest
            had = self.config.optim_of(self.config.stages[index]).batch_size
            rows = min(config.optim_of(config.stages[index]).batch_size, size or had)
            batch = (max(1, round(sequences * rows / had)), min(length, config.limits.max_length))
            found.append(memory(network or self.network, batch, shape.learned, settings))
        return max(found, key=lambda estimate: estimate.peak)

    def memory_here(self, config: RunConfig | None = None, network: Network | None = None) -> float:
        """Return the peak bytes on this machine, also of another config; a calibration corrects the estimate."""
        wanted = self.estimated_memory(self.compute_settings(config), config=config, network=network)
        if self.measured is None:
            return wanted.peak
        alone = replace(self.compute_settings(), processes=1, sharded=False)
        tried = self.estimated_memory(alone, self.measured.batch_size)
        scale = (self.measured.peak - tried.standing) / tried.moving
        return wanted.standing + wanted.moving * min(max(scale, 1 / _FARTHEST), _FARTHEST)

    def here(self) -> PlaceEstimate:
        """Return the estimate for this machine."""
        if self.measured:
            spent = self._all(self.measured.stages, self.measured.startup)
        else:
            spent = self._all(self._rough_paces(self._batch_seconds_here), _LOADING)
        room = memory_of(self.device)
        return PlaceEstimate(
            name="here",
            title=device_name_of(self.device),
            basis="measured" if self.measured else "rough",
            memory=self.memory_here(),
            room=room.total,
            free=room.free,
            seconds=spent.all,
            training=spent.training,
            disk=self.disk(),
            disk_free=free_disk(self.runs),
        )

    def rented(self, flavor: Flavor) -> PlaceEstimate:
        """Return the estimate for a rented machine, by its maker's figures."""
        chip = chip_of(flavor.accelerator) if flavor.gpus else None
        named = "processes" in self.config.compute.model_fields_set
        processes = self.config.compute.processes if named else max(flavor.gpus, 1)
        settings = replace(
            self.compute_settings(), width=chip.width if chip else 4, cpu=chip is None, processes=processes
        )

        def batch_seconds(batch: tuple[int, int], learned: float) -> float:
            mine = (-(-batch[0] // processes), batch[1]) if chip else batch
            work, moved = operations(self.network, mine, learned), 4 * activations(self.network, mine, settings)
            return seconds_on(chip, flavor.cpus, work, moved, self.network.layers)

        spent = self._all(self._rough_paces(batch_seconds), START_SECONDS)
        return PlaceEstimate(
            name=flavor.name,
            title=flavor.title,
            basis="published",
            memory=self.estimated_memory(settings).peak,
            room=(flavor.gpu_memory_gb or flavor.memory_gb) * 1e9,
            free=None,
            seconds=spent.all,
            training=spent.training,
            disk=self.disk() + self.stored + _PACKAGES,
            disk_free=None if flavor.storage_gb is None else flavor.storage_gb * 1e9,
            usd=spent.all / 3600 * flavor.usd_per_hour,
        )

    def disk(self) -> float:
        """Return the peak bytes of a run's folder: its checkpoints and one being written, the result, and its
        tokens."""
        from finetune.training.checkpoints import KEPT

        weights = self.network.trainable * 4 if self.network.adapter else self.stored
        checkpoint = self.network.trainable * 12 + weights
        best = any(self.config.optim_of(stage).keep_best for stage in self.config.stages)
        tokens = sum(shape.tokens for shape in self.shapes) * _TOKEN_BYTES
        return checkpoint * (KEPT + 1 + best) + weights + tokens

    def _all(self, paces: Sequence[Pace], startup: float) -> Seconds:
        """Return the seconds of all stages, including what comes before and between their steps."""
        from finetune.training.callbacks import interval

        training, between, watch = 0.0, startup, self.config.watch
        for shape, pace in zip(self.shapes, paces, strict=True):
            evaluations = 1 + due(shape.steps, watch.evaluate_every or interval(shape.steps))
            checkpoints = due(shape.steps, watch.checkpoint_every or interval(shape.steps))
            spent = of_stage(shape, pace, evaluations, checkpoints)
            training, between = training + spent.training, between + spent.between
        return Seconds(training, between)

    def _rough_paces(self, batch_seconds: BatchSeconds) -> list[Pace]:
        """Return paces computed from operations; evaluating a row takes a third of the time of training on it."""
        paces = []
        for shape in self.shapes:
            seconds, tokens = batch_seconds(shape.largest, shape.learned), float(shape.largest[0] * shape.largest[1])
            paces.append(Pace(((tokens, seconds),), held=seconds / tokens / 3))
        return paces

    def _batch_seconds_here(self, batch: tuple[int, int], learned: float) -> float:
        work = operations(self.network, batch, learned)
        if self.device == "cpu":
            return work / ((os.cpu_count() or 1) * core_speed(self.width) * 1e12)
        moved = 4 * activations(self.network, batch, self.compute_settings())
        return seconds_on(chip_of(device_name_of(self.device)), 1, work, moved, self.network.layers)


def core_speed(width: int) -> float:
    """Return the approximate TFLOP/s that training reaches on a core of this machine."""
    return 0.1 if width == 2 and cpu_has_bfloat16() else 0.03


def device_name_of(device: str) -> str:
    """Return the name of this machine's device."""
    import torch

    return device_name(torch.device(device))
