"""The report of each stage of a run: its rows, its steps, its validation loss before and after, its time."""

from dataclasses import dataclass, field

from finetune.runs.events import Event, RunProgress


@dataclass(frozen=True)
class StageReport:
    """One stage. `state` is waiting, working or done; of its `rows`, `kept` are used, in `packed` rows where documents
    share rows; the others are `dropped` (nothing to learn) or `refused` by the chat template, `problems` are the first
    reasons; `cut` ones are longer than the limit. `done` of its `steps` are finished.

    `before` and `after` are validation losses, `after` as of step `measured` of the run; `preferred` (a share) and
    `margin` are those at the end of a preference stage; `best` and `early` are steps of the run. None: not known, or
    does not exist.
    """

    number: int
    objective: str
    state: str
    rows: int
    kept: int
    packed: int | None
    dropped: int
    refused: int
    cut: int
    held_out: int
    first_step: int
    steps: int
    done: int
    before: float | None = None
    after: float | None = None
    measured: int | None = None
    preferred: float | None = None
    margin: float | None = None
    best: int | None = None
    early: int | None = None
    seconds: float | None = None
    problems: list[str] = field(default_factory=list)


def reports(progress: RunProgress) -> list[StageReport]:
    """Return a report for each stage of a run; none for the events of an older version."""
    stages = (progress.started or {}).get("stages") or []
    return [_report(progress, stage) for stage in stages]


def _report(progress: RunProgress, stage: Event) -> StageReport:
    number, first, steps, tally = stage["stage"], stage["first_step"], stage["stage_steps"], stage["tally"]
    state = _state(progress, number)
    over, early = progress.over.get(number), progress.early.get(number)
    after = _after(progress, number, over)
    return StageReport(
        number=number + 1,
        objective=stage["objective"],
        state=state,
        rows=tally["rows"],
        kept=tally["kept"],
        packed=stage["rows"] if stage["objective"] == "pretrain" else None,
        dropped=tally["dropped"],
        refused=tally["refused"],
        cut=tally["cut"],
        held_out=stage["validation_rows"],
        first_step=first,
        steps=steps,
        done=min(max((over["step"] if over else progress.step) - first, 0), steps),
        before=_before(progress, number).get("eval_loss"),
        after=after.get("eval_loss"),
        measured=after.get("step"),
        preferred=after.get("preferred"),
        margin=margin_of(after),
        best=(over or early or {}).get("best"),
        early=early["step"] if early else None,
        seconds=progress.seconds.get(number),
        problems=list(tally.get("problems", [])),
    )


def _state(progress: RunProgress, stage: int) -> str:
    current = progress.stage["stage"] if progress.stage else -1
    if stage in progress.over or stage < current or (stage == current and progress.ending == "done"):
        return "done"
    return "working" if stage == current else "waiting"


def _before(progress: RunProgress, stage: int) -> Event:
    """Return the evaluation before a stage's first step."""
    return progress.begins.get(stage, {}) if stage else progress.evals.get(0, {})


def _after(progress: RunProgress, stage: int, over: Event | None) -> Event:
    """Return the evaluation of a stage's result: its best step where that was kept, else its last evaluation so far."""
    own = {step: event for step, event in progress.evals.items() if event.get("stage") == stage and step}
    best = over.get("best") if over else None
    return own[best] if best in own else own[max(own)] if own else {}


def margin_of(event: Event) -> float | None:
    """Return by how much the mean reward of the chosen answers exceeds that of the rejected ones; None for other
    objectives."""
    if event.get("reward_chosen") is None or event.get("reward_rejected") is None:
        return None
    return float(event["reward_chosen"]) - float(event["reward_rejected"])
