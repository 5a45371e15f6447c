"""Send a plan: large files first, then one commit, so that nothing is ever half visible and a re-run completes it."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from core.errors import UserError
from core.files import read_json, write_json
from core.words import say
from core.workspace import Owner
from finetune.publish import remote
from finetune.publish.files import WEIGHTS, PlannedFile, sha256_of
from finetune.publish.plan import Plan
from finetune.publish.remote import Found
from finetune.run import Run
from inference import hub
from inference.sources import Progress, Report

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

RECORD = "published.json"
_TELL_EVERY = 1 << 20


@dataclass(frozen=True)
class PushResult:
    """Where the run lies now: `url` to look at, the commit, the SHA-256 of each file sent, by path, and the size of
    all in bytes (0 where it was not written down)."""

    repo_id: str
    url: str
    commit: str
    private: bool
    files: dict[str, str]
    size: int = 0


def read_push(run: Run) -> PushResult | None:
    """The last push of the run, if there was one."""
    path = run.folder / RECORD
    return PushResult(**read_json(path)) if path.is_file() else None


def push(
    plan: Plan,
    owner: Owner,
    *,
    confirmed: bool = False,
    progress: Report | None = None,
    stop: threading.Event | None = None,
) -> PushResult:
    """Make the repository where there is none, upload, commit; the result is kept as `<run>/published.json`.

    Looks at the target again first: what is foreign needs `confirmed`. Raises UserError; after one that says so,
    running it again goes on where it ended (what was uploaded is not sent again).
    """
    tell = _Teller(plan, progress, stop)
    tell(say("publish.looking", repo=plan.repo_id))
    found = remote.look(plan.repo_id, plan.run.id, owner)
    if found.target == "foreign" and not confirmed:
        raise UserError("publish.foreign", repo=plan.repo_id, count=len(found.files))
    if plan.private and found.private is False:
        raise UserError("publish.is_public", repo=plan.repo_id)
    _unchanged(plan)
    with remote.in_words(plan.repo_id, owner, lost="publish.lost"):
        if found.target == "new":
            found = _create(plan, owner, tell)
        commit = _commit(plan, found, owner, tell)
    result = PushResult(
        plan.repo_id,
        f"{hub.endpoint()}/{plan.repo_id}",
        commit,
        bool(found.private),
        {file.path: file.sha256 for file in plan.files},
        plan.size,
    )
    write_json(plan.run.folder / RECORD, asdict(result))
    return result


def _unchanged(plan: Plan) -> None:
    """Refuse where a file is no longer what the preview showed."""
    for file in plan.files:
        if isinstance(file.source, Path) and (not file.source.is_file() or sha256_of(file.source) != file.sha256):
            raise UserError("publish.file_changed", file=file.path)


class _Teller:
    """Passes progress on, in bytes of the whole plan, and ends the push when it was stopped."""

    def __init__(self, plan: Plan, progress: Report | None, stop: threading.Event | None) -> None:
        self.total, self.sent = plan.size, 0
        self.progress, self.stop = progress, stop

    def __call__(self, text: str, within: int = 0) -> None:
        if self.stop is not None and self.stop.is_set():
            raise UserError("publish.stopped")
        if self.progress is not None:
            self.progress(Progress(text, min(self.sent + within, self.total), self.total))


def _create(plan: Plan, owner: Owner, tell: _Teller) -> Found:
    tell(say("publish.creating", repo=plan.repo_id))
    token = remote.token_of(owner)
    remote.api(owner).create_repo(plan.repo_id, private=plan.private, token=token)
    info = remote.api(owner).model_info(plan.repo_id, token=token)
    return Found("empty", bool(info.private), info.sha, ())


def _commit(plan: Plan, found: Found, owner: Owner, tell: _Teller) -> str:
    """Upload what is large, then put everything into one commit on top of what was looked at."""
    from huggingface_hub import CommitOperationDelete

    token, api = remote.token_of(owner), remote.api(owner)
    operations: list[Any] = []
    for file in plan.files:
        operation = _addition(file, tell)
        operations.append(operation)
        if WEIGHTS.fullmatch(file.path):
            tell(say("publish.uploading", file=file.path))
            api.preupload_lfs_files(plan.repo_id, [operation], token=token, num_threads=1, free_memory=False)
            tell.sent += file.size
    left = set(found.pushed_before) - {file.path for file in plan.files}
    operations += [CommitOperationDelete(path) for path in sorted(left)]
    tell(say("publish.committing", repo=plan.repo_id))
    made = api.create_commit(
        plan.repo_id,
        operations,
        commit_message=f"Publish run {plan.run.id} with Tunescope",
        token=token,
        parent_commit=found.commit,
    )
    tell.sent = tell.total
    tell(say("publish.pushed", repo=plan.repo_id))
    return made.oid


def _addition(file: PlannedFile, tell: _Teller) -> "CommitOperationAdd":
    """The client's operation for a file, which tells how far its upload over HTTP is."""
    from huggingface_hub import CommitOperationAdd

    class Told(CommitOperationAdd):
        @contextmanager
        def as_file(self, with_tqdm: bool = False) -> Iterator[BinaryIO]:
            if with_tqdm and isinstance(file.source, Path):
                with _Reader(file.source, file.path, tell) as content:
                    yield content
            else:
                with super().as_file() as content:
                    yield content

    operation = Told(path_in_repo=file.path, path_or_fileobj=file.source)
    operation.upload_info.sha256 = bytes.fromhex(file.sha256)
    return operation


class _Reader(io.BufferedReader):
    """A file that tells, about once a megabyte, how much of it was read."""

    def __init__(self, path: Path, name: str, tell: _Teller) -> None:
        super().__init__(io.FileIO(path))
        self.text, self.told, self.report = say("publish.uploading", file=name), 0, tell

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(size)
        if not block or abs(self.tell() - self.told) >= _TELL_EVERY:
            self.told = self.tell()
            self.report(self.text, self.told)
        return block
