"""The plan that a run started with, saved in its folder, and its comparison with the actual figures."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from core.files import read_json, write_json
from finetune.plan.card import RunPlan
from finetune.runs.events import RunProgress
from finetune.runs.run import Run

_FILE = "plan.json"


def keep_plan(run: Run, plan: RunPlan) -> None:
    """Save the plan in the run's folder."""
    write_json(run.folder / _FILE, plan.to_json())


def kept_plan(run: Run) -> dict[str, Any] | None:
    """Return the plan of a run on this machine, as `RunPlan.to_json`; None for a run without a plan."""
    with suppress(OSError, ValueError):
        plan = read_json(run.folder / _FILE)
        return plan if isinstance(plan.get("places"), list) and plan["places"] else None
    return None


@dataclass(frozen=True)
class OutcomeFigure:
    """One figure, planned and actual: `memory_gb`, `train_seconds` or `seconds`."""

    name: str
    planned: float
    actual: float

    @property
    def ratio(self) -> float | None:
        """Planned divided by actual; None where the actual value is 0."""
        return round(self.planned / self.actual, 3) if self.actual else None

    def to_json(self) -> dict[str, Any]:
        return {"planned": self.planned, "actual": self.actual, "ratio": self.ratio}


def outcome(run: Run, progress: RunProgress | None = None) -> list[OutcomeFigure]:
    """Return planned and actual figures of a finished run; times only where it finished in one attempt, since a resumed
    run counts its last attempt only."""
    plan, progress = kept_plan(run), progress or run.progress()
    done = progress.done
    if plan is None or done is None:
        return []
    here = plan["places"][0]
    whole = progress.attempt == 1 and progress.step == progress.steps
    names = ("memory_gb", "train_seconds", "seconds") if whole else ("memory_gb",)
    return [
        OutcomeFigure(name, float(here[name]), float(done[name])) for name in names if name in here and name in done
    ]


def plan_json(run: Run) -> dict[str, Any]:
    """Return the plan and the outcome for the shell; empty for a run without a plan."""
    plan = kept_plan(run)
    if plan is None:
        return {}
    found = {figure.name: figure.to_json() for figure in outcome(run)}
    return {"plan": {"basis": plan["places"][0].get("basis"), "expected": plan["places"][0], "outcome": found}}
