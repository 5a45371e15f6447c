"""Upload the contents of a push: large files before the commit, with or without Xet, with progress in bytes."""

import base64
import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from core.errors import UserError
from core.hub import reach, retries
from core.words import say
from core.workspace import Owner
from finetune.publish.repo import remote, xet
from finetune.publish.repo.destination import Destination
from finetune.publish.repo.scan import PlannedFile
from inference.models.types import Progress, Report

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

_TELL_EVERY = 1 << 20
_DECIDED = {"path", "uploadMode", "shouldIgnore"}
"""What the Hub says of each file before an upload."""
_LARGE, _SURELY_LARGE = re.compile(r".+\.(safetensors|gguf|parquet|arrow|bin|model)"), 1 << 20


class PushProgress:
    """Reports progress, in bytes of the whole plan, and ends the push when it was stopped."""

    def __init__(self, total: int, progress: Report | None, stop: threading.Event | None) -> None:
        self.total, self.sent = total, 0
        self.progress, self.stop = progress, stop

    def __call__(self, text: str, within: int = 0) -> None:
        if self.stop is not None and self.stop.is_set():
            raise UserError("publish.stopped")
        if self.progress is not None:
            self.progress(Progress(text, min(self.sent + within, self.total), self.total))

    def done(self, text: str) -> None:
        """Report that everything is there; it is too late to stop."""
        if self.progress is not None:
            self.progress(Progress(text, self.total, self.total))


def additions(files: list[PlannedFile], tell: PushProgress) -> "list[CommitOperationAdd]":
    """Return the client's operations for files; they report the progress of their upload over HTTP."""
    return [_addition(file, tell) for file in files]


def send_large(
    added: "list[CommitOperationAdd]",
    to: Destination,
    revision: str | None,
    opens: bool,
    owner: Owner,
    tell: PushProgress,
) -> None:
    """Upload the contents that do not go with the commit itself, one after another; what the Hub has is not sent.

    `opens`: the commit will open a pull request, for which other permissions are needed. A content that the Hub takes
    for large without being so goes with the commit's own call.
    """
    if xet.available():
        return _through_xet(added, to, revision, opens, owner, tell)
    where: dict[str, Any] = {"repo_type": to.repo_type, "revision": revision, "create_pr": opens}
    how: dict[str, Any] = {"token": remote.token_of(owner), "num_threads": 1, "free_memory": False}
    for operation in added:
        if _LARGE.fullmatch(operation.path_in_repo) or operation.upload_info.size > _SURELY_LARGE:
            tell(say("publish.uploading", file=operation.path_in_repo))
            remote.api(owner).preupload_lfs_files(to.repo_id, [operation], **where, **how)
            tell.sent += operation.upload_info.size


def _through_xet(
    added: "list[CommitOperationAdd]",
    to: Destination,
    revision: str | None,
    opens: bool,
    owner: Owner,
    tell: PushProgress,
) -> None:
    """Upload the same through Xet, by hand: the client's own way reports no progress, cannot be stopped and waits for
    minutes.

    The operations are marked as the client marks what it has uploaded; otherwise the commit would upload again.
    """
    from huggingface_hub.utils import build_hf_headers

    headers = build_hf_headers(token=remote.token_of(owner))
    address = f"{reach.endpoint()}/api/{to.repo_type}s/{to.repo_id}"
    params = {"create_pr": "1"} if opens else {}
    target = f"{address}/preupload/{quote(revision or 'main', safe='')}"
    names = retries.again(lambda: _large(added, target, params, headers), tell.stop)
    large = [operation for operation in added if operation.path_in_repo in names]
    if large:
        ref = "None?create_pr=1" if opens else quote(revision or "main", safe="")
        xet.upload(large, f"{address}/xet-write-token/{ref}", headers, tell, tell.stop)
    for operation in large:
        operation._upload_mode, operation._is_uploaded = "lfs", True
        tell.sent += operation.upload_info.size


def _large(added: "list[CommitOperationAdd]", url: str, params: dict[str, str], headers: dict[str, str]) -> set[str]:
    """Return the paths of the files that do not go with the commit itself, as the Hub decides by name, size and first
    bytes."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status

    files = [
        {"path": operation.path_in_repo, "size": info.size, "sample": base64.b64encode(info.sample).decode()}
        for operation in added
        if (info := operation.upload_info).size
    ]
    response = get_session().post(url, json={"files": files}, params=params, headers=headers)
    hf_raise_for_status(response)
    answer = response.json()
    found = answer.get("files") if isinstance(answer, dict) else None
    if not isinstance(found, list) or not all(isinstance(file, dict) and file.keys() >= _DECIDED for file in found):
        raise ValueError("Malformed response from server")
    return {file["path"] for file in found if file["uploadMode"] == "lfs" and not file["shouldIgnore"]}


def _addition(file: PlannedFile, tell: PushProgress) -> "CommitOperationAdd":
    from huggingface_hub import CommitOperationAdd

    class ReportingAddition(CommitOperationAdd):
        @contextmanager
        def as_file(self, with_tqdm: bool = False) -> Iterator[BinaryIO]:
            if with_tqdm and isinstance(file.source, Path):
                with _ReportingReader(file.source, file.path, tell) as content:
                    yield content
            else:
                with super().as_file() as content:
                    yield content

    operation = ReportingAddition(path_in_repo=file.path, path_or_fileobj=file.source)
    operation.upload_info.sha256 = bytes.fromhex(file.sha256)
    return operation


class _ReportingReader(io.BufferedReader):
    """A file that reports, about once per megabyte, how much of it was read."""

    def __init__(self, path: Path, name: str, tell: PushProgress) -> None:
        super().__init__(io.FileIO(path))
        self.text, self.reported, self.report = say("publish.uploading", file=name), 0, tell

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(size)
        if not block or abs(self.tell() - self.reported) >= _TELL_EVERY:
            self.reported = self.tell()
            self.report(self.text, self.reported)
        return block
