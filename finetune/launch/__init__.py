"""Where a run runs. A launcher checks, starts, resumes, stops and says whether a run is alive."""

from typing import TYPE_CHECKING, Protocol

from core.workspace import Owner

if TYPE_CHECKING:
    from finetune.config.run_config import RunConfig
    from finetune.data.findings import DataFinding
    from finetune.runs.run import Run


class Launcher(Protocol):
    """What every place to run offers."""

    def check(self, config: "RunConfig", owner: Owner) -> list["DataFinding"]:
        """Return which rows are skipped or truncated; nothing starts."""

    def start(self, config: "RunConfig", owner: Owner) -> str:
        """Start a new run and return its id; the run continues without the caller."""

    def resume(self, run: "Run", owner: Owner) -> None:
        """Continue from the last complete checkpoint."""

    def stop(self, run: "Run") -> None:
        """Ask the run to save a checkpoint and end; returns at once."""

    def alive(self, run: "Run") -> bool:
        """Return whether the run is queued or running."""
