"""Copy a job's events and log into the run's own files, each line once, however often the log is read."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from core import limits
from core.errors import UserError
from core.files import write_json
from core.hub import reach
from core.hub.retries import again
from core.workspace import Owner
from finetune.launch.follow.api import api, in_words, token_of
from finetune.launch.follow.lines import ENVIRONMENT, from_line
from finetune.runs.job_record import job_of, locked, update

if TYPE_CHECKING:
    from finetune.runs.run import Run

_TAIL_BYTES = 16 * 1024
_LONGEST_LINE, _LARGEST_LOG = 4_000, 20_000_000
RESULT_GONE = ("job.result_gone", "job.no_result")
"""Errors of `bring_result` that no later try changes."""
_FACTS_OF_THE_JOB = ("fingerprint", "device", "device_name", "dtype", "threads", "versions")


def feed(run: "Run", owner: Owner, job_id: str, lines: Sequence[str], plain_before: int = 0) -> int:
    """Copy lines of a job's log that are not here yet. Safe to call from several threads and processes.

    `plain_before` is the number of lines without an event that this reading has passed already; returns that number
    after these lines. A run is done only once its result is here: it is fetched before the "done" event is written.
    Where the result is gone for good, the run has failed.
    """
    events = [from_line(line) for line in lines]
    if any(event and event["type"] == "done" for event in events):
        events = _with_result(run, owner, events)
    with locked(run):
        record = job_of(run)
        if record is None or record.id != job_id:
            return plain_before
        seen, plain, fresh = max(record.events, _last_number(run, job_id)), plain_before, []
        for line, event in zip(lines, events, strict=True):
            if event is None:
                plain += 1
                if plain > record.lines:
                    fresh.append(line)
            elif event["n"] > seen:
                seen = event["n"]
                _write(run, job_id, event)
        _append(run, fresh)
        update(run, lines=max(record.lines, plain), events=seen)
    return plain


def _with_result(run: "Run", owner: Owner, events: list[dict[str, Any] | None]) -> list[dict[str, Any] | None]:
    """Fetch the result of a job that is done. Returns the events, "done" replaced by a failure where it is gone."""
    try:
        bring_result(run, owner)
    except UserError as error:
        if error.code not in RESULT_GONE:
            raise
        lost = {"type": "failed", "reason": "result_gone", "error": str(error)}
        return [{**event, **lost} if event and event["type"] == "done" else event for event in events]
    return events


def copy_earlier_events(run: "Run", job_id: str, lines: Sequence[str]) -> None:
    """Write the events of an earlier job of the run, into a run folder that is being made."""
    for line in lines:
        event = from_line(line)
        if event and event["type"] != "done":
            _write(run, job_id, event)


def _write(run: "Run", job_id: str, event: dict[str, Any]) -> None:
    """Write an event to events.jsonl; the environment goes to env.json; "queued" is skipped, as the Hub reports it."""
    if event["type"] == ENVIRONMENT:
        environment = event.get("environment")
        facts = (
            {name: environment[name] for name in _FACTS_OF_THE_JOB if name in environment}
            if isinstance(environment, dict)
            else {}
        )
        write_json(run.folder / "env.json", {**run.environment(), **facts})
    elif event["type"] != "queued":
        run.log.write(event.pop("type"), **event, job=job_id)


def _last_number(run: "Run", job_id: str) -> int:
    """Return the number of the job's last event in the file: the record may be older where its writer was killed."""
    try:
        size = run.log.path.stat().st_size
    except FileNotFoundError:
        return 0
    events, _ = run.events(max(0, size - _TAIL_BYTES))
    return max((event["n"] for event in events if event.get("job") == job_id and "n" in event), default=0)


def _append(run: "Run", lines: list[str]) -> None:
    """Append lines to the log, up to a size: a job may print without end."""
    if lines:
        with open(run.log_path, "a", encoding="utf-8") as log:
            if log.tell() < _LARGEST_LOG:
                log.writelines(line[:_LONGEST_LINE] + "\n" for line in lines)


def bring_result(run: "Run", owner: Owner) -> None:
    """Fetch `model/` of a finished job from its private repository, checked by hash.

    Raises UserError: one of `RESULT_GONE` where the Hub says that there is no such repository, or it holds no result;
    any other where it cannot be fetched now, or needs more disk than the owner has left. It is never there in part.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    from finetune.launch.follow.files import bring_folder

    record = job_of(run)
    assert record is not None, "only a job has a result elsewhere"
    if run.model.exists():
        return
    facts = {"value": run.id, "repo": record.results, "endpoint": reach.endpoint(), "usd": f"{record.usd_so_far:.2f}"}
    with in_words(owner, record.results):
        room = partial(limits.check_disk, owner)
        try:
            bring_folder(api(owner), token_of(owner), record.results, "model", run.model, room)
        except RepositoryNotFoundError as error:
            if error.response.status_code == 404:  # the client says the same of some refused tokens
                raise UserError("job.result_gone", **facts) from error
            raise
    if not run.model.exists():
        raise UserError("job.no_result", **facts)


def results_exist(run: "Run", owner: Owner) -> bool:
    """Return whether the job's private repository, with its checkpoints, still exists, as far as the Hub clearly says.

    Raises UserError where it cannot be asked now.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    record = job_of(run)
    assert record is not None, "only a job has a repository"
    with in_words(owner, record.results):
        try:
            again(lambda: api(owner).model_info(record.results, token=token_of(owner)))
        except RepositoryNotFoundError as error:
            if error.response.status_code == 404:  # the client says the same of some refused tokens
                return False
            raise
    return True


def uploaded_lines(run: "Run", owner: Owner, attempt: int) -> list[str]:
    """Return the events of a job from its last upload: for when its log cannot be read any more."""
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    record = job_of(run)
    assert record is not None, "only a job has uploads"
    folder = run.folder / ".events"
    with in_words(owner, record.results):
        try:
            name = f"attempts/{attempt}/events.txt"
            options: dict[str, Any] = {"token": token_of(owner), "local_dir": folder}
            path = again(lambda: api(owner).hf_hub_download(record.results, name, **options))
        except (EntryNotFoundError, RepositoryNotFoundError):
            return []
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()
