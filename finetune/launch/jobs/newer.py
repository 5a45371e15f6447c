"""A run's job that this workspace does not know: started on another machine, or one whose answer came late."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.hub.retries import again
from core.workspace import Owner
from finetune.launch.follow.api import LABEL, api, in_words, token_of
from finetune.launch.follow.sync import facts_of
from finetune.launch.jobs.flavors import known_flavors
from finetune.runs.job_record import ACTIVE_STAGES, JobRecord, job_of, locked, save, update

if TYPE_CHECKING:
    from finetune.runs.run import Run


def attempt_of(job: Any) -> int:
    """Return the number of a job within its run, counted from 1."""
    text = str((job.labels or {}).get(f"{LABEL}-attempt", "1"))
    return int(text) if text.isdigit() else 1


def costs_of(jobs: list[Any], prices: dict[str, float]) -> dict[str, float]:
    """Return the cost so far of some jobs in dollars, by their ids; `prices` is dollars per hour by machine."""
    return {job.id: round(facts_of(job)["running_secs"] / 3600 * prices.get(str(job.flavor), 0.0), 4) for job in jobs}


def prices(owner: Owner) -> dict[str, float]:
    """Return dollars per hour by machine."""
    return {flavor.name: flavor.usd_per_hour for flavor in known_flavors(owner)}


def catch_up(run: "Run", owner: Owner) -> None:
    """Ask the Hub for the run's jobs and take over the newest, so that no second one is paid beside it."""
    record = job_of(run)
    assert record is not None, "only a run that is a job has jobs"
    client, token = api(owner), token_of(owner)
    with in_words(owner, run.id):
        found = again(lambda: list(client.list_jobs(labels={LABEL: run.id}, namespace=record.namespace, token=token)))
    if found:
        take_over(run, found, prices(owner))


def take_over(run: "Run", jobs: list[Any], prices: dict[str, float]) -> None:
    """Make the newest of the run's jobs its own, unless the record has that one or a newer one already; the others were
    paid for, too, whoever started them."""
    newest = max(jobs, key=attempt_of)
    if run.held():
        return
    with locked(run):
        record = job_of(run)
        if record is None:
            return
        costs = _merged_costs(record.costs, costs_of(jobs, prices))
        newer = _is_newer(newest, record)
        mine = newest.id if newer else record.id
        others = {job: usd for job, usd in costs.items() if job != mine}
        if newer:
            _adopt(run, record, newest, prices.get(str(newest.flavor), record.usd_per_hour), others)
        else:
            update(run, others=others)


def _merged_costs(known: dict[str, float], listed: dict[str, float]) -> dict[str, float]:
    """Merge two tables of costs, the larger one of each job: the Hub forgets old jobs, and prices change."""
    return {job: max(known.get(job, 0.0), listed.get(job, 0.0)) for job in {**known, **listed}}


def _adopt(run: "Run", record: JobRecord, job: Any, usd_per_hour: float, others: dict[str, float]) -> None:
    """Write a newer job down as the run's own; call it with the lock held."""
    fresh: dict[str, Any] = {"lines": 0, "events": 0, "asked_to_stop": None, "problem": None, "others": others}
    machine: dict[str, Any] = {"flavour": str(job.flavor), "usd_per_hour": usd_per_hour, "attempt": attempt_of(job)}
    save(run, replace(record, **fresh, **machine, **facts_of(job)))
    run.log.write("queued", device=str(job.flavor), attempt=attempt_of(job))


def _is_newer(job: Any, record: JobRecord) -> bool:
    """Return whether the job is newer than the record's, is the one whose answer was lost, or a duplicate of the same
    attempt that is still running."""
    attempt = attempt_of(job)
    if attempt != record.attempt or record.id is None:
        return attempt >= record.attempt
    return job.id != record.id and not record.active and facts_of(job)["stage"] in ACTIVE_STAGES
