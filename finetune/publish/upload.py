"""The contents of a push on their way: what is large goes before the commit, with or without Xet, told in bytes."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from core.errors import UserError
from core.words import say
from core.workspace import Owner
from finetune.publish import remote, xet
from finetune.publish.destination import Destination
from finetune.publish.files import PlannedFile
from inference import hub
from inference.sources import Progress, Report

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

_TELL_EVERY = 1 << 20


class Teller:
    """Passes progress on, in bytes of the whole plan, and ends the push when it was stopped."""

    def __init__(self, total: int, progress: Report | None, stop: threading.Event | None) -> None:
        self.total, self.sent = total, 0
        self.progress, self.stop = progress, stop

    def __call__(self, text: str, within: int = 0) -> None:
        if self.stop is not None and self.stop.is_set():
            raise UserError("publish.stopped")
        if self.progress is not None:
            self.progress(Progress(text, min(self.sent + within, self.total), self.total))

    def done(self, text: str) -> None:
        """All is there; too late to stop."""
        if self.progress is not None:
            self.progress(Progress(text, self.total, self.total))


def additions(files: list[PlannedFile], tell: Teller) -> "list[CommitOperationAdd]":
    """The client's operations for files, which tell how far their upload over HTTP is."""
    return [_addition(file, tell) for file in files]


def send_large(
    added: "list[CommitOperationAdd]",
    to: Destination,
    revision: str | None,
    opens: bool,
    owner: Owner,
    tell: Teller,
) -> None:
    """Upload the contents that do not travel in the commit itself and are not there yet.

    `opens`: the commit will open a pull request, for which other rights are needed.
    """
    api, token = remote.api(owner), remote.token_of(owner)
    headers = api._build_hf_headers(token=token)
    _ask_modes(added, to, revision, opens, headers)
    large = [one for one in added if one._upload_mode == "lfs" and not one._should_ignore]
    missing = [one for one in large if one._remote_oid != one._local_oid]
    for one in large:
        one._is_uploaded = one not in missing
    if missing and xet.available():
        ref = "None" if opens else quote(revision or "main", safe="")
        url = f"{hub.endpoint()}/api/{to.repo_type}s/{to.repo_id}/xet-write-token/{ref}"
        xet.upload(missing, f"{url}?create_pr=1" if opens else url, headers, tell, tell.stop)
    for one in missing:
        if not xet.available():
            tell(say("publish.uploading", file=one.path_in_repo))
            api.preupload_lfs_files(
                to.repo_id,
                [one],
                token=token,
                repo_type=to.repo_type,
                revision=revision,
                create_pr=opens,
                num_threads=1,
                free_memory=False,
            )
        one._is_uploaded = True
        tell.sent += one.upload_info.size


def _ask_modes(
    added: "list[CommitOperationAdd]", to: Destination, revision: str | None, opens: bool, headers: dict[str, str]
) -> None:
    """Ask the Hub which contents are large, and which it has: all in one call, as its client does inside a commit."""
    from huggingface_hub._commit_api import _fetch_upload_modes

    _fetch_upload_modes(
        additions=added,
        repo_type=to.repo_type,
        repo_id=to.repo_id,
        headers=headers,
        revision=quote(revision or "main", safe=""),
        endpoint=hub.endpoint(),
        create_pr=opens,
    )


def _addition(file: PlannedFile, tell: Teller) -> "CommitOperationAdd":
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

    def __init__(self, path: Path, name: str, tell: Teller) -> None:
        super().__init__(io.FileIO(path))
        self.text, self.told, self.report = say("publish.uploading", file=name), 0, tell

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(size)
        if not block or abs(self.tell() - self.told) >= _TELL_EVERY:
            self.told = self.tell()
            self.report(self.text, self.told)
        return block
