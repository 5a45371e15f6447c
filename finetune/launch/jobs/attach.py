"""Find the caller's jobs by label and make run folders for those not here: another machine, a new disk."""

import logging
import shutil
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from core import limits
from core.errors import UserError
from core.files import new_folder, read_json, write_json
from core.hub.retries import again
from core.workspace import RUN_ID, Owner
from finetune.launch.follow.api import LABEL, api, in_words, token_of, whoami
from finetune.launch.follow.intake import copy_earlier_events, feed, uploaded_lines
from finetune.launch.follow.sync import facts_of, sync_quietly
from finetune.launch.jobs.newer import attempt_of, costs_of, prices, take_over
from finetune.runs.job_record import JobRecord, path_of, removed
from finetune.runs.run import Run

log = logging.getLogger("tunescope")


def attach(owner: Owner) -> list[Run]:
    """Bring every job of the caller that the Hub still lists into the workspace; returns the runs, newest first.

    A run that is here already is only synced; one that was deleted here stays deleted. Raises UserError where the Hub
    cannot be asked.
    """
    user = str(whoami(owner)["name"])
    client, token = api(owner), token_of(owner)
    with in_words(owner, user):
        found = again(lambda: list(client.list_jobs(labels={"made-by": LABEL}, namespace=user, token=token)))
    jobs: dict[str, list[Any]] = {}
    gone = removed(owner)
    for job in found:
        run_id = (job.labels or {}).get(LABEL, "")
        if RUN_ID.fullmatch(run_id) and run_id not in gone:
            jobs.setdefault(run_id, []).append(job)
    paid = prices(owner) if jobs else {}
    runs = [
        run
        for run_id, some in jobs.items()
        if (run := _attach_or_log(Run(owner.runs / run_id), owner, user, some, paid))
    ]
    for run in runs:
        sync_quietly(run, owner)
    return sorted(runs, key=lambda run: run.id, reverse=True)


def _attach_or_log(run: Run, owner: Owner, user: str, jobs: list[Any], prices: dict[str, float]) -> Run | None:
    """Call `_attach_run`; a run whose inputs are gone, or in an unknown format, does not stop the others."""
    try:
        return _attach_run(run, owner, user, jobs, prices)
    except (UserError, OSError, ValueError, KeyError, TypeError) as error:
        log.info(
            "job not attached", extra={"facts": {"run": run.id, "why": getattr(error, "code", type(error).__name__)}}
        )
        return None


def _attach_run(run: Run, owner: Owner, user: str, jobs: list[Any], prices: dict[str, float]) -> Run | None:
    """Return the run of some jobs: the one here, or one made from the newest job's inputs. None where they are gone."""
    job = max(jobs, key=attempt_of)
    if path_of(run.folder).is_file():
        take_over(run, jobs, prices)
        return run
    volume = next((mounted for mounted in job.volumes or [] if mounted.mount_path == "/inputs"), None)
    if run.folder.exists() or volume is None or not volume.source.startswith(f"{user}/"):
        return None
    inputs = Path(tempfile.mkdtemp(prefix="tunescope-inputs-"))
    try:
        _download(owner, volume, run.id, inputs)
        job_json = read_json(inputs / "runs" / run.id / "job.json")
        others = costs_of([attempt for attempt in jobs if attempt is not job], prices)
        record = _record(job, others, job_json, user, volume, prices)
        _bring_datasets(inputs, owner)
        with new_folder(run.folder) as folder:
            shutil.copyfile(inputs / "runs" / run.id / "config.yaml", folder / "config.yaml")
            recorded = {name: job_json[name] for name in ("base", "asked", "revision")}
            write_json(folder / "env.json", {**recorded, "stand_in": False})
            write_json(path_of(folder), record.to_json())
    finally:
        shutil.rmtree(inputs, ignore_errors=True)
    _copy_events(run, owner, record)
    return run


def _download(owner: Owner, volume: Any, run_id: str, inputs: Path) -> None:
    """Download the job's config and the datasets that it names."""
    from huggingface_hub import snapshot_download

    where: dict[str, Any] = {"repo_type": "dataset", "revision": volume.revision, "local_dir": inputs}
    access: dict[str, Any] = {"token": token_of(owner), "endpoint": api(owner).endpoint}
    with in_words(owner, volume.source):
        again(lambda: snapshot_download(volume.source, allow_patterns=[f"runs/{run_id}/*"], **where, **access))
        config = Run(inputs / "runs" / run_id).config()
        names = [f"datasets/{source.dataset}*/*" for source in config.sources]
        _check_room(owner, volume, names)
        again(lambda: snapshot_download(volume.source, allow_patterns=names, **where, **access))


def _check_room(owner: Owner, volume: Any, names: list[str]) -> None:
    """Raise UserError where the files matching these patterns need more disk than the owner has left."""
    options: dict[str, Any] = {"revision": volume.revision, "files_metadata": True, "token": token_of(owner)}
    info = again(lambda: api(owner).dataset_info(volume.source, **options))
    sizes = [file.size or 0 for file in info.siblings or [] if any(fnmatch(file.rfilename, name) for name in names)]
    limits.check_disk(owner, sum(sizes))


def _record(
    job: Any, others: dict[str, float], job_json: dict[str, Any], user: str, volume: Any, prices: dict[str, float]
) -> JobRecord:
    """Make the record of a job; `others` is what the other jobs of its run cost."""
    return JobRecord(
        namespace=user,
        flavour=str(job.flavor),
        usd_per_hour=prices.get(str(job.flavor), 0.0),
        timeout=int(job_json["timeout"]),
        attempt=int(job_json["attempt"]),
        inputs=volume.source,
        results=str(job_json["results"]),
        commit=str(volume.revision),
        source=str(job_json["source"]),
        others=others,
        **facts_of(job),
    )


def _bring_datasets(inputs: Path, owner: Owner) -> None:
    for folder in (inputs / "datasets").iterdir():
        with new_folder(owner.datasets / folder.name) as part:
            shutil.copytree(folder, part, dirs_exist_ok=True)


def _copy_events(run: Run, owner: Owner, record: JobRecord) -> None:
    """Write the events of this and earlier jobs of the run, from their uploads; the log adds the rest of this one's."""
    for attempt in range(1, record.attempt + 1):
        run.log.write("queued", device=record.flavour, attempt=attempt)
        lines = uploaded_lines(run, owner, attempt)
        if attempt < record.attempt:
            copy_earlier_events(run, f"attempt-{attempt}", lines)
        else:
            feed(run, owner, str(record.id), lines)
