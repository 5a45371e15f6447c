"""Follow a job's log while an app is open: a thread copies lines as they arrive and reconnects."""

import threading
from typing import TYPE_CHECKING

from core.errors import UserError
from core.workspace import Owner
from finetune.launch.follow.api import api, in_words, token_of
from finetune.launch.follow.intake import feed
from finetune.launch.follow.sync import sync, sync_quietly, write_sample
from finetune.runs.job_record import job_of

if TYPE_CHECKING:
    from finetune.runs.run import Run

RETRY_SECONDS = 5.0
SAMPLE_EVERY = 10
_lock = threading.Lock()
_followers: dict[str, threading.Thread] = {}
_owners: dict[str, Owner] = {}
"""The latest owner who asked to follow a run: a sign-in ends, and the next one has another token."""


def follow(run: "Run", owner: Owner) -> threading.Thread:
    """Follow a run's job in the background until it has ended and its ending is recorded. One thread per run and
    process."""
    with _lock:
        _owners[str(run.folder)] = owner
        known = _followers.get(str(run.folder))
        if known is None or not known.is_alive():
            known = threading.Thread(target=_follow, args=(run,), name=f"follow {run.id}", daemon=True)
            _followers[str(run.folder)] = known
            known.start()
        return known


def _follow(run: "Run") -> None:
    pause = threading.Event()
    measuring, wait = False, RETRY_SECONDS
    while True:
        owner = _owners[str(run.folder)]
        sync_quietly(run, owner, log=False)
        record = job_of(run)
        if record is None or (not record.active and run.progress().ending is not None):
            return
        if record.id is not None and record.stage == "RUNNING":
            if not measuring:
                measuring = True
                threading.Thread(target=_measure, args=(run, owner, record.id), daemon=True).start()
            _read(run, owner, record.id, record.namespace)
        wait = min(2 * wait, 12 * RETRY_SECONDS) if record.problem else RETRY_SECONDS
        pause.wait(wait)


def _read(run: "Run", owner: Owner, job_id: str, namespace: str) -> None:
    """Copy the log line by line until the job ends or the connection does."""
    client, token, plain = api(owner), token_of(owner), 0
    try:
        with in_words(owner, job_id):
            for line in client.fetch_job_logs(job_id=job_id, namespace=namespace, follow=True, token=token):
                plain = feed(run, owner, job_id, [line], plain)
        sync(run, owner)
    except UserError:
        return


def _measure(run: "Run", owner: Owner, job_id: str) -> None:
    """Store every tenth sample of the metrics, which arrive once a second; stage and cost are requested as often."""
    record = job_of(run)
    assert record is not None, "it is being followed"
    client, token = api(owner), token_of(owner)
    try:
        with in_words(owner, job_id):
            samples = client.fetch_job_metrics(job_id=job_id, namespace=record.namespace, follow=True, token=token)
            for number, sample in enumerate(samples):
                if number % SAMPLE_EVERY == 0:
                    write_sample(run, sample)
                    sync_quietly(run, owner, log=False)
    except (UserError, ValueError):
        return
