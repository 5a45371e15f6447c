"""A run's job that this workspace does not know: started on another machine, or one whose answer came too late."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.workspace import Owner
from finetune.launch.job_flavours import flavours
from finetune.launch.job_hub import LABEL, again, api, in_words, token_of
from finetune.launch.job_record import AT_WORK, JobRecord, job_of, locked, save
from finetune.launch.job_sync import facts_of

if TYPE_CHECKING:
    from finetune.run import Run


def attempt_of(job: Any) -> int:
    """Which job of its run it is, counted from 1."""
    text = str((job.labels or {}).get(f"{LABEL}-attempt", "1"))
    return int(text) if text.isdigit() else 1


def catch_up(run: "Run", owner: Owner) -> None:
    """Ask the Hub for the run's newest job and take it over, so that no second one is paid beside it."""
    record = job_of(run)
    assert record is not None, "only a run that is a job has jobs"
    client, token = api(owner), token_of(owner)
    with in_words(owner, run.id):
        found = again(lambda: list(client.list_jobs(labels={LABEL: run.id}, namespace=record.namespace, token=token)))
    if found:
        take_over(run, max(found, key=attempt_of), owner)


def take_over(run: "Run", job: Any, owner: Owner) -> None:
    """Make a job of the run its own, unless the record speaks of that job or of a newer one already."""
    known = job_of(run)
    if known is None or not _newer(job, known) or run.held():
        return
    price = next((one.usd_per_hour for one in flavours(owner) if one.name == job.flavor), None)
    with locked(run):
        record = job_of(run)
        if record is None or not _newer(job, record):
            return
        usd_per_hour = record.usd_per_hour if price is None else price
        before: dict[str, Any] = {
            "usd_earlier": record.usd_so_far,
            "lines": 0,
            "events": 0,
            "asked_to_stop": None,
            "problem": None,
        }
        machine: dict[str, Any] = {"flavour": str(job.flavor), "usd_per_hour": usd_per_hour, "attempt": attempt_of(job)}
        save(run, replace(record, **before, **machine, **facts_of(job)))
        run.log.write("queued", device=str(job.flavor), attempt=attempt_of(job))


def _newer(job: Any, record: JobRecord) -> bool:
    """Whether the job came after the record's, or is that of which the answer was lost, or its still living twin."""
    attempt = attempt_of(job)
    if attempt != record.attempt or record.id is None:
        return attempt >= record.attempt
    return job.id != record.id and not record.at_work and facts_of(job)["stage"] in AT_WORK
