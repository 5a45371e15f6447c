"""The plan of a run: what it takes in each place where it can run, from its config, its data and measurements."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from core.errors import UserError
from core.words import counted, say
from finetune.config.run_config import RunConfig

SURE = 1.3
"""How far off a rough figure may be before a start is refused because of it."""
_SHORTEST = 64


@dataclass(frozen=True)
class Advice:
    """One problem: its sentence, whether a start is refused because of it, and settings that would fit; where there are
    none, `nothing` is the key of the sentence with another remedy."""

    code: str
    facts: dict[str, Any]
    refused: bool
    settings: dict[str, Any]
    nothing: str = "plan.no_change"

    def __str__(self) -> str:
        return say(self.code, **self.facts, change=change_sentence(self.settings, self.nothing))

    def to_json(self) -> dict[str, Any]:
        return {"sentence": str(self), "refused": self.refused, "settings": self.settings}

    def error(self) -> UserError:
        """Return the advice as the error that refuses a start."""
        return UserError(self.code, **self.facts, change=change_sentence(self.settings, self.nothing))


def change_sentence(settings: dict[str, Any], nothing: str = "plan.no_change") -> str:
    """Return the sentence that suggests settings, in the form of the shell; where there are none, another remedy."""
    if not settings:
        return say(nothing)
    changes = ", ".join(f"{path}={_plain(value)}" for path, value in settings.items())
    return say("plan.change", changes=changes)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def smaller(
    config: RunConfig, longest: int, bytes_of: Callable[[dict[str, Any]], float], most: float
) -> dict[str, Any]:
    """Return the first settings whose peak, by `bytes_of`, is at most `most`: a smaller batch with the same effective
    batch size, then recomputing, then shorter rows, then an adapter; an empty dict where none fits."""
    return next((settings for settings in _ladder(config, longest) if bytes_of(settings) <= most), {})


def _ladder(config: RunConfig, longest: int) -> Iterator[dict[str, Any]]:
    """Yield changes of settings, the mildest first: those that do not change what is learned come before those that
    do."""
    batches = list(_batches(config))
    yield from batches
    recompute: dict[str, Any] = {} if config.compute.recompute else {"compute.recompute": True}
    if recompute:
        yield recompute
        yield from (batch | recompute for batch in batches)
    least = (batches[-1] if batches else {}) | recompute
    methods: list[dict[str, Any]] = [{}, {"method": "lora"}] if config.method in ("full", "freeze") else [{}]
    for method in methods:
        yield from (change | method for change in ({}, *batches, recompute, least) if method)
    for method in methods:
        length = longest // 2
        while length >= _SHORTEST:
            yield least | {"limits.max_length": length} | method
            length //= 2


def _batches(config: RunConfig) -> Iterator[dict[str, Any]]:
    """Yield smaller batches with more gradient accumulation, so that a step sees as many rows."""
    optim = config.optim
    size, accumulation = optim.batch_size, optim.gradient_accumulation
    while size > max(config.compute.processes, 1):
        size, accumulation = -(-size // 2), accumulation * 2
        yield {"optim.batch_size": size, "optim.gradient_accumulation": accumulation}


@dataclass(frozen=True)
class PlaceEstimate:
    """The estimate for one place to run: this machine ("here") or a rented one by its name. In bytes, seconds and
    dollars.

    `room` is the device's memory and `free` what is free of it now, where that is known; `disk_free` likewise.
    `training` is the time of training steps alone. `basis` says where the figures come from: "measured" on the device,
    "rough" (from the model's size alone), or "published" (the maker's figures; never measured by us).
    """

    name: str
    title: str
    basis: str
    memory: float
    room: float | None
    free: float | None
    seconds: float
    training: float
    disk: float
    disk_free: float | None
    usd: float | None = None

    @property
    def fits(self) -> bool:
        """Whether memory and disk suffice, as far as known."""
        most = self.room if self.free is None else self.free
        return (most is None or self.memory <= most) and (self.disk_free is None or self.disk <= self.disk_free)

    def to_json(self) -> dict[str, Any]:
        return {
            "place": self.name,
            "title": self.title,
            "basis": self.basis,
            "memory_gb": _gb(self.memory),
            "room_gb": _gb(self.room),
            "free_gb": _gb(self.free),
            "seconds": round(self.seconds, 1),
            "train_seconds": round(self.training, 1),
            "disk_gb": _gb(self.disk),
            "disk_free_gb": _gb(self.disk_free),
            "usd": None if self.usd is None else round(self.usd, 4),
            "fits": self.fits,
        }


@dataclass(frozen=True)
class RunPlan:
    """The plan of a run. `tokens` counts all tokens that it trains on, over all epochs, `padded` includes padding;
    `largest` is the batch with the most tokens, as sequences and length. `seen` of `rows` rows were tokenized."""

    model: str
    method: str
    device: str
    dtype: str
    trainable: int
    total: int
    rows: int
    held: int
    seen: int
    tokens: int
    padded: int
    steps: int
    largest: tuple[int, int]
    here: PlaceEstimate
    rented: tuple[PlaceEstimate, ...] = ()
    advice: tuple[Advice, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def places(self) -> Sequence[PlaceEstimate]:
        return (self.here, *self.rented)

    @property
    def calibrated(self) -> bool:
        return self.here.basis == "measured"

    def to_json(self) -> dict[str, Any]:
        facts = asdict(self)
        for name in ("here", "rented", "advice", "notes"):
            del facts[name]
        return {
            **facts,
            "places": [place.to_json() for place in self.places],
            "advice": [advice.to_json() for advice in self.advice],
            "notes": list(self.notes),
        }


def _gb(count: float | None) -> float | None:
    return None if count is None else round(count / 1e9, 3)


def weights_in_words(count: int | None) -> str:
    """Return a number of weights as text: 135 M, 1.7 B; a dash where it is not known."""
    if count is None:
        return "–"
    if count < 999_500_000:
        return say("picker.million", count=f"{count / 1e6:.0f}")
    return say("picker.billion", count=f"{count / 1e9:.1f}")


def weight_facts(plan: RunPlan) -> dict[str, str]:
    """Return the facts of the sentence on weights."""
    return {
        "trainable": f"{plan.trainable:,}",
        "total": f"{plan.total:,}",
        "share": f"{100 * plan.trainable / plan.total:.3g}",
        "method": plan.method,
        "dtype": plan.dtype,
        "device": plan.device,
    }


def data_facts(plan: RunPlan) -> dict[str, str]:
    """Return the facts of the sentence on rows and steps."""
    return {
        "rows": counted("core.rows", plan.rows - plan.held),
        "held": f"{plan.held:,}",
        "tokens": f"{plan.tokens:,}",
        "padded": f"{plan.padded:,}",
        "steps": counted("core.steps", plan.steps),
        "batch": f"{plan.largest[0]} x {plan.largest[1]}",
    }


def dollars(usd: float | None) -> str:
    """Return a price as text; a dash where nothing is paid."""
    return "-" if usd is None else f"${usd:.2f}" if usd >= 0.01 else "<$0.01"
