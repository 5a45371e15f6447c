"""Sync a run with its job: stage, events, log, metrics, cost, how it ended and, at the end, its result."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.hub import reach
from core.hub.retries import again
from core.words import say
from core.workspace import Owner
from finetune.launch.follow.api import LABEL, UNCERTAIN, api, clean, in_words, token_of
from finetune.launch.follow.intake import RESULT_GONE, bring_result, feed, results_exist, uploaded_lines
from finetune.launch.follow.lines import UPLOADED
from finetune.runs.job_record import VANISHED, JobRecord, job_of, locked, update

if TYPE_CHECKING:
    from finetune.runs.run import Run

GRACE_SECONDS = 300.0
"""How long a job that was asked to stop may take to save before it is canceled."""
LATE_SECONDS = 300.0
"""How long a job may take to appear after the answer to its start was lost: until then nothing is started again."""
_STARTING = "renting"
_AT_ONCE = 1000


def sync(run: "Run", owner: Owner, *, log: bool = True) -> None:
    """Ask the Hub for the state of the run's job and record it; calling it again gives the same.

    With `log=False` the log of a running job is left to the thread that follows it: reading it waits five seconds for
    more.

    Does nothing for a local run, and for one whose job has ended with its ending recorded. Raises UserError where the
    Hub cannot be asked, or where the result of a finished job cannot be fetched: the next call tries again.
    """
    record = job_of(run)
    if record is None or (not record.active and run.progress().ending is not None):
        return
    try:
        with in_words(owner, run.id):
            record = _inspect(run, owner, record)
            if record.id is not None and (log or not record.active):
                _read(run, owner, record)
            _settle_ending(run, owner)
            _remember(run, None)
    except UserError as error:
        with suppress(OSError):
            _remember(run, str(error))
        raise


def sync_quietly(run: "Run", owner: Owner, *, log: bool = True) -> None:
    """Call `sync`, for a list of many; a problem is stored in the job's record."""
    with suppress(UserError):
        sync(run, owner, log=log)


def _remember(run: "Run", problem: str | None) -> None:
    with locked(run):
        update(run, problem=problem)


def _inspect(run: "Run", owner: Owner, record: JobRecord) -> JobRecord:
    """Record the job's stage and time as the Hub reports them now."""
    from huggingface_hub.errors import JobNotFoundError

    with in_words(owner, record.id or run.id):
        if record.id is None:
            return _look_for(run, owner, record)
        client, token = api(owner), token_of(owner)
        try:
            found = again(lambda: client.inspect_job(job_id=str(record.id), namespace=record.namespace, token=token))
        except JobNotFoundError:
            listed = again(lambda: list(client.list_jobs(namespace=record.namespace, token=token)))
            if record.id in [job.id for job in listed]:
                return record
            found = None
    with locked(run):
        if found is None:
            return update(run, stage=VANISHED)
        changed = update(run, **facts_of(found))
        if changed.stage == "RUNNING" and not run.progress().begun:
            run.log.write("progress", phase=_STARTING, done=0, total=0, flavour=changed.flavour)
        return changed


def facts_of(job: Any) -> dict[str, Any]:
    """Return the fields of a record that a JobInfo holds."""
    return {
        "id": job.id,
        "url": job.url,
        "stage": str(getattr(job.status.stage, "value", job.status.stage)),
        "message": job.status.message,
        "started": job.started_at.timestamp() if job.started_at else None,
        "running_secs": int((job.durations.running_secs if job.durations else None) or 0),
    }


def _look_for(run: "Run", owner: Owner, record: JobRecord) -> JobRecord:
    """Find by its label a job whose id was lost. While the run's lock is held, its start is still in progress."""
    if run.held():
        return record
    client, token = api(owner), token_of(owner)
    labels = {LABEL: run.id, f"{LABEL}-attempt": str(record.attempt)}
    found = again(lambda: list(client.list_jobs(labels=labels, namespace=record.namespace, token=token)))
    if not found and time.time() - record.asked < LATE_SECONDS:
        return record
    with locked(run):
        return update(run, **facts_of(found[0])) if found else update(run, stage=VANISHED)


def _read(run: "Run", owner: Owner, record: JobRecord) -> None:
    """Copy the log so far and one sample of the metrics, in parallel: each call waits for a silent Hub."""
    with ThreadPoolExecutor(2) as pool:
        sample = pool.submit(_sample, run, owner, record)
        plain, lines = 0, _log(owner, record)
        while some := list(islice(lines, _AT_ONCE)):
            plain = feed(run, owner, str(record.id), some, plain)
        sample.result()


def _log(owner: Owner, record: JobRecord) -> Iterator[str]:
    """Yield the lines of the log as they arrive: a job may print without end."""
    from huggingface_hub.errors import HfHubHTTPError

    client, token = api(owner), token_of(owner)
    if record.stage in (VANISHED, "SCHEDULING"):
        return
    try:
        with in_words(owner, str(record.id)):
            yield from client.fetch_job_logs(job_id=str(record.id), namespace=record.namespace, token=token)
    except UserError as error:
        gone = isinstance(error.__cause__, HfHubHTTPError) and error.__cause__.response.status_code == 404
        if not gone:
            raise


def _sample(run: "Run", owner: Owner, record: JobRecord) -> None:
    """Store one sample of the machine's metrics; failures are ignored."""
    import httpx2

    if record.stage != "RUNNING":
        return
    client, token = api(owner), token_of(owner)
    try:
        found = client.fetch_job_metrics(job_id=str(record.id), namespace=record.namespace, token=token)
        for sample in found:
            write_sample(run, sample)
    except (httpx2.HTTPError, OSError, ValueError):
        return


def write_sample(run: "Run", sample: dict[str, Any]) -> None:
    """Append a sample to metrics.jsonl."""
    line = json.dumps({"t": round(time.time(), 3), **sample})
    with locked(run), open(run.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(line + "\n")


def _settle_ending(run: "Run", owner: Owner) -> None:
    """Cancel a job that does not follow a stop request in time; write the ending of one that ended without reporting
    it."""
    record = job_of(run)
    assert record is not None, "it was there before"
    if record.active:
        if record.asked_to_stop and record.id and time.time() - record.asked_to_stop > GRACE_SECONDS:
            cancel(run, owner)
            return _settle_ending(run, owner)
        return
    if _has_ending(run):
        return
    if record.id is not None:
        feed(run, owner, record.id, uploaded_lines(run, owner, record.attempt))
    if _has_ending(run):
        return
    reason, error = _completed(run, record, owner) if record.stage == "COMPLETED" else _ending_of(run, record, owner)
    with locked(run):
        if not _has_ending(run):
            facts = {"step": run.progress().step, "reason": reason, "job": record.id}
            kind = reason if reason in ("stopped", "done") else "failed"
            run.log.write(kind, **facts, **({"error": error} if error else {}))


def _has_ending(run: "Run") -> bool:
    return run.progress().ending is not None


def request_stop(run: "Run", owner: Owner) -> None:
    """Ask a running job to save a checkpoint and end. Raises UserError."""
    record = job_of(run)
    assert record is not None, "only a job is stopped this way"
    options: dict[str, Any] = {"repo_id": record.results, "commit_message": "Stop", "token": token_of(owner)}
    name = f"control/stop-{record.attempt}"
    with _stop_recorded(run, record), in_words(owner, record.results):
        again(lambda: api(owner).upload_file(path_or_fileobj=b"stop\n", path_in_repo=name, **options))


def cancel_before_start(run: "Run", owner: Owner) -> None:
    """Cancel a job that does not run yet. Raises UserError."""
    record = job_of(run)
    assert record is not None, "only a job is canceled"
    with _stop_recorded(run, record):
        cancel(run, owner)


@contextmanager
def _stop_recorded(run: "Run", record: JobRecord) -> Iterator[None]:
    """Record the stop request. Where the Hub clearly refuses it, the record is restored."""
    with locked(run):
        update(run, asked_to_stop=record.asked_to_stop or time.time())
    try:
        yield
    except UserError as error:
        if error.code not in UNCERTAIN:
            with locked(run):
                update(run, asked_to_stop=record.asked_to_stop)
        raise


def cancel(run: "Run", owner: Owner) -> None:
    """Cancel the job now."""
    record = job_of(run)
    assert record is not None and record.id is not None, "only a known job is canceled"
    with in_words(owner, record.id):
        named = {"job_id": record.id, "namespace": record.namespace, "token": token_of(owner)}
        again(lambda: api(owner).cancel_job(**named))
    with locked(run):
        update(run, stage="CANCELED")


def _completed(run: "Run", record: JobRecord, owner: Owner) -> tuple[str, str | None]:
    """Return reason and sentence, as `_ending_of` does, of a completed job: done once its result is here, or stopped
    after it had saved."""
    try:
        bring_result(run, owner)
    except UserError as error:
        if error.code not in RESULT_GONE:
            raise
        stopped = record.asked_to_stop and error.code == "job.no_result"
        return ("stopped", None) if stopped else ("result_gone", str(error))
    return "done", None


def _ending_of(run: "Run", record: JobRecord, owner: Owner) -> tuple[str, str | None]:
    """Return how a job ended that did not report its ending: a reason for programs, a sentence for people."""
    if record.id is None:
        return "never_started", say("job.ended.never_started")
    if record.asked_to_stop and record.stage == "CANCELED":
        return "stopped", None
    facts = {
        "value": record.id,
        "url": record.url,
        "usd": f"{record.usd_so_far:.2f}",
        "next": _resume_hint(run, record, owner),
    }
    if record.stage in (VANISHED, "DELETED"):
        return "vanished", say("job.ended.vanished", **facts)
    message = clean(record.message or "-", owner)
    if "timeout" in message.lower().replace(" ", "").replace("timedout", "timeout") or _time_is_up(record):
        return "timeout", say("job.ended.timeout", **facts, minutes=record.timeout // 60)
    if record.stage == "CANCELED":
        return "cancelled", say("job.ended.cancelled", **facts)
    return "error", say("job.ended.error", **facts, message=message, log=run.log_tail(5) or say("run.log_empty"))


def _resume_hint(run: "Run", record: JobRecord, owner: Owner) -> str:
    """Return the sentence that says where Resume continues. Raises UserError where the Hub does not say whether
    anything is left."""
    if results_exist(run, owner):
        return say("job.ended.next", step=last_uploaded_step(run))
    return say("job.ended.nothing_left", repo=record.results, endpoint=reach.endpoint())


def _time_is_up(record: JobRecord) -> bool:
    return record.stage in ("ERROR", "CANCELED") and record.running_secs >= record.timeout


def last_uploaded_step(run: "Run") -> int:
    """Return the step of the newest checkpoint that was uploaded, 0 where there is none."""
    return max((event["step"] for event in run.events()[0] if event["type"] == UPLOADED), default=0)
