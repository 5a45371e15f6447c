"""The shelf keeps a few loaded models, so that the next question need not wait for them."""

from inference.loading import Loaded
from inference.sources import Source


class Shelf:
    """Up to `places` loaded models within `memory` bytes; the one unused for longest makes room. Thread-safe."""

    def __init__(self, places: int = 4, memory: int | None = None) -> None:
        self.places = places
        self.memory = memory

    def get(self, source: Source, dtype: str | None = None, device: str | None = None) -> Loaded:
        """The loaded model, from the shelf or from the disk; who asks for one that is being loaded waits for it."""
        raise NotImplementedError
