"""Upload what a job makes to the caller's private repository: checkpoints, events and, at the end, model/."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.hub import reach
from finetune.launch.follow.files import checkpoint_steps
from finetune.launch.follow.lines import UPLOADED
from finetune.launch.inside.tell import EventPrinter
from finetune.runs.run import Run

_TRIES = 6
_WAIT_SECONDS = 5.0


class Uploader:
    """Uploads in a thread of its own, so that training does not wait. Only the newest checkpoint is kept; one commit
    each.

    `uploaded_step` is the step of the checkpoint that is in the repository, None where there is none.
    """

    def __init__(self, run: Run, record: dict[str, Any], token: str, printer: EventPrinter) -> None:
        from huggingface_hub import HfApi

        from core.hub import retries

        retries.limit_time()
        self.run, self.record, self.token, self.printer = run, record, token, printer
        self.client = HfApi(endpoint=reach.endpoint(), token=token)
        self.uploaded_step: int | None = None
        self._wanted = threading.Condition()
        self._has_news = self._closing = False
        self._reported_step = 0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def files(self) -> list[str]:
        """Return the files that are in the repository now."""
        return self.client.list_repo_files(self.record["results"], token=self.token)

    def stop_requested(self) -> bool:
        """Return whether the file that requests this job's stop exists. No answer from the Hub counts as no."""
        try:
            path = f"control/stop-{self.record['attempt']}"
            return self.client.file_exists(self.record["results"], path, token=self.token)
        except _failures() as error:
            self.printer.say(f"stop file: {error}")
            return False

    def wake(self, step: int) -> None:
        """Report a new checkpoint, after the events up to it: they are uploaded with it."""
        with self._wanted:
            self._has_news, self._reported_step = True, step
            self._wanted.notify_all()

    def finish(self, ending: dict[str, Any] | None) -> None:
        """Upload what is not uploaded yet: the result of a run that is done, else its last checkpoint.

        Raises what the Hub raised where the result of a finished run cannot be uploaded.
        """
        with self._wanted:
            self._closing = True
            self._wanted.notify_all()
        self._thread.join()
        if ending is not None and ending["type"] == "done":
            self._retry(self._upload_model)
        elif (newest := self._newest()) is not None and newest != self.uploaded_step:
            self._retry(lambda: self._upload_checkpoint(newest))

    def _work(self) -> None:
        while True:
            with self._wanted:
                self._wanted.wait_for(lambda: self._has_news or self._closing)
                if self._closing:
                    return
                self._has_news = False
            newest = self._newest()
            if newest is not None and newest != self.uploaded_step:
                self._upload_or_log(newest)

    def _upload_or_log(self, step: int) -> None:
        """Upload a checkpoint; a failure is printed, and the next checkpoint is tried in its turn."""
        try:
            self._upload_checkpoint(step)
        except _failures() as error:
            self.printer.say(f"checkpoint {step}: {type(error).__name__}: {error}")

    def _newest(self) -> int | None:
        found = [path for path in self.run.checkpoints.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
        steps = [int(path.name.rpartition("-")[2]) for path in found]
        return max((step for step in steps if self._closing or step <= self._reported_step), default=None)

    def _retry(self, upload: Callable[[], None]) -> None:
        for attempt in range(_TRIES):
            try:
                return upload()
            except _failures() as error:
                self.printer.say(f"{type(error).__name__}: {error}")
                if attempt + 1 == _TRIES:
                    raise UserError("job.not_kept", value=self.run.id, repo=self.record["results"]) from error
                time.sleep(_WAIT_SECONDS * 2**attempt)

    def _upload_checkpoint(self, step: int) -> None:
        """Upload from hard links of our own: the trainer deletes old checkpoints."""
        staged = self.run.folder / f".checkpoint-{step}"
        shutil.rmtree(staged, ignore_errors=True)
        shutil.copytree(self.run.checkpoints / f"checkpoint-{step}", staged, copy_function=os.link)
        try:
            self._commit(staged, f"checkpoints/checkpoint-{step}", f"Step {step}")
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        self.uploaded_step = step
        self.printer.tell({"t": round(time.time(), 3), "type": UPLOADED, "step": step})

    def _upload_model(self) -> None:
        self._commit(self.run.model, "model", "Result")

    def _commit(self, folder: Path, target: str, message: str) -> None:
        """Commit the folder and the events so far, and delete older checkpoints."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        lines = "".join(line + "\n" for line in self.printer.events).encode()
        operations: list[Any] = [CommitOperationAdd(f"attempts/{self.record['attempt']}/events.txt", lines)]
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        operations += [CommitOperationAdd(f"{target}/{path.relative_to(folder).as_posix()}", path) for path in files]
        for step in checkpoint_steps(self.files()):
            if target != f"checkpoints/checkpoint-{step}":
                operations.append(CommitOperationDelete(f"checkpoints/checkpoint-{step}/", is_folder=True))
        self.client.create_commit(self.record["results"], operations, commit_message=message, token=self.token)


def _failures() -> tuple[type[Exception], ...]:
    """Return what a call of the Hub's client may raise: refusals, a lost connection, a full disk, malformed answers."""
    import httpx2

    return httpx2.HTTPError, OSError, ValueError, RuntimeError
