"""What a model reference leads to: files on the disk, their names and their origin."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Progress:
    """The progress of a long step: a sentence, and how many of `unit` ("bytes" or "steps") are done.

    `total` is 0 if it is not known.
    """

    text: str
    done: int = 0
    total: int = 0
    unit: str = "bytes"


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Fetched:
    """A base model's files, on the disk and checked.

    `requested` is what was typed, `name` what it really is: if the Hub could not be reached, the stand-in replaces the
    default model, and `stand_in` is True. `revision` is the commit of a Hub snapshot. `fingerprint` is the SHA-256 of
    the weights (see `inference.models.fingerprint`), `context_length` in tokens comes from the model's config.
    """

    folder: Path
    requested: str
    name: str
    revision: str | None
    stand_in: bool
    fingerprint: str
    context_length: int

    @property
    def reference(self) -> str:
        """A reference that leads to the same weights again (a run records it as its base)."""
        return f"{self.name}@{self.revision}" if self.revision else self.name


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter's files. `base_name` is what its `adapter_config.json` (`config`) names as its base."""

    folder: Path
    base_name: str
    config: dict[str, Any] = field(hash=False)
    name: str = ""
    revision: str | None = None


@dataclass(frozen=True)
class Source:
    """A model ready to be loaded: a base and, for a tuned one, the adapter on it. `title` is a run's id."""

    base: Fetched
    adapter: AdapterFiles | None = None
    title: str = ""

    @property
    def name(self) -> str:
        """The name that people see: a run's id, the adapter's name for a tuned model, else the base's."""
        return self.title or (self.adapter.name if self.adapter else self.base.name)
