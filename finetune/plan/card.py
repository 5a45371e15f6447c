"""The card: what a run takes in each place where it can run, from its config, its data and what was measured."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from finetune.plan.advice import Advice


@dataclass(frozen=True)
class Place:
    """One place to run: this machine ("here") or a rented one by its name. Bytes, seconds and dollars.

    `room` is the device's memory and `free` what is free of it now, where that can be known; so with the disk.
    `training` are the seconds of training steps alone. `basis` says where the figures come from: "measured" on the
    device, "rough" (from the model's size alone), or "published" (the maker's figures; never tried).
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
        """Whether memory and disk suffice, as far as is known."""
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
class Plan:
    """What a run is, and what it takes. `tokens` are all that it trains on, over all epochs, `padded` with padding;
    `largest` is the batch with the most tokens, as sequences and length. `seen` of `rows` rows were tokenised."""

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
    here: Place
    rented: tuple[Place, ...] = ()
    advice: tuple[Advice, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def places(self) -> Sequence[Place]:
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
            "advice": [one.to_json() for one in self.advice],
            "notes": list(self.notes),
        }


def _gb(count: float | None) -> float | None:
    return None if count is None else round(count / 1e9, 3)
