"""What does not fit, said with its numbers, and the change of one or two knobs with which it would."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from core.errors import UserError
from core.words import say
from finetune.config.run_config import RunConfig

SURE = 1.3
"""How far off a rough figure may be before a start is refused for it."""
_SHORTEST = 64


@dataclass(frozen=True)
class Advice:
    """One thing that does not fit: its sentence, whether a start is refused for it, and settings that would fit; where
    there are none, `nothing` is the sentence of what else can be done."""

    code: str
    facts: dict[str, Any]
    refused: bool
    settings: dict[str, Any]
    nothing: str = "plan.no_change"

    def __str__(self) -> str:
        return say(self.code, **self.facts, change=told(self.settings, self.nothing))

    def to_json(self) -> dict[str, Any]:
        return {"sentence": str(self), "refused": self.refused, "settings": self.settings}

    def error(self) -> UserError:
        """The same as what ends a start."""
        return UserError(self.code, **self.facts, change=told(self.settings, self.nothing))


def told(settings: dict[str, Any], nothing: str = "plan.no_change") -> str:
    """Settings as the shell takes them; where there are none, what else can be done."""
    if not settings:
        return say(nothing)
    changes = ", ".join(f"{path}={_plain(value)}" for path, value in settings.items())
    return say("plan.change", changes=changes)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def smaller(
    config: RunConfig, longest: int, bytes_of: Callable[[dict[str, Any]], float], most: float
) -> dict[str, Any]:
    """The first settings whose peak, by `bytes_of`, is at most `most`: a smaller batch with the steps kept alike, then
    recomputing, then shorter rows, then an adapter; nothing where none is."""
    return next((settings for settings in _ladder(config, longest) if bytes_of(settings) <= most), {})


def _ladder(config: RunConfig, longest: int) -> Iterator[dict[str, Any]]:
    """Changes from the mildest on: what learns the same comes before what learns something else."""
    batches = list(_batches(config))
    yield from batches
    recompute: dict[str, Any] = {} if config.compute.recompute else {"compute.recompute": True}
    if recompute:
        yield recompute
        yield from (batch | recompute for batch in batches)
    least = (batches[-1] if batches else {}) | recompute
    methods: list[dict[str, Any]] = [{}, {"method": "lora"}] if config.method in ("full", "freeze") else [{}]
    for method in methods:
        yield from (one | method for one in ({}, *batches, recompute, least) if method)
    for method in methods:
        length = longest // 2
        while length >= _SHORTEST:
            yield least | {"limits.max_length": length} | method
            length //= 2


def _batches(config: RunConfig) -> Iterator[dict[str, Any]]:
    """Smaller batches, more of them a step, so that a step sees as many rows."""
    optim = config.optim
    size, accumulation = optim.batch_size, optim.gradient_accumulation
    while size > max(config.compute.processes, 1):
        size, accumulation = -(-size // 2), accumulation * 2
        yield {"optim.batch_size": size, "optim.gradient_accumulation": accumulation}
