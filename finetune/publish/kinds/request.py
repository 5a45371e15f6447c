"""The request to a kind, and its answer: a build that is prepared and priced in bytes, not yet begun."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.workspace import Owner
from finetune.data.store import Dataset
from finetune.publish.formats.build_folder import BuildProgress
from finetune.publish.kinds.options import Options
from finetune.runs.run import Run
from inference.models.types import Report


@dataclass(frozen=True)
class Request:
    """A run or a dataset, its owner, and the options."""

    subject: Run | Dataset
    owner: Owner
    options: Options
    progress: Report | None = None
    stop: threading.Event | None = None

    @property
    def run(self) -> Run:
        assert isinstance(self.subject, Run), "the table checks what a kind is made of"
        return self.subject

    @property
    def dataset(self) -> Dataset:
        assert isinstance(self.subject, Dataset), "the table checks what a kind is made of"
        return self.subject


@dataclass(frozen=True)
class Cost:
    """What a build takes. `files`: bytes by name (small files rounded up); `disk`: bytes needed while building."""

    files: dict[str, int] = field(default_factory=dict)
    extra: int = 0

    @property
    def written(self) -> int:
        """All files together, in bytes."""
        return sum(self.files.values())

    @property
    def disk(self) -> int:
        return self.written + self.extra


@dataclass(frozen=True)
class PreparedBuild:
    """A build with its cost, not yet begun: `write` makes the files in a folder and returns facts for the card."""

    cost: Cost
    write: Callable[[Path, BuildProgress], dict[str, Any]]


def sizes(folder: Path, names: tuple[str, ...] | None = None) -> dict[str, int]:
    """Return the sizes of the plain files in a folder, all or those named."""
    return {
        path.name: path.stat().st_size
        for path in sorted(folder.iterdir())
        if path.is_file() and (names is None or path.name in names)
    }
