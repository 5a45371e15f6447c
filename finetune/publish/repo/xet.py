"""Upload large files through Xet storage: only the chunks that the Hub lacks, with progress in bytes, stoppable.

https://huggingface.co/docs/hub/xet. The client's own way reports its progress to a terminal only.
"""

import threading
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.hub import retries
from core.words import say

if TYPE_CHECKING:
    from collections.abc import Callable

_TICK_SECONDS = 0.1


def available() -> bool:
    """Return whether hf_xet is installed and not disabled (`HF_HUB_DISABLE_XET`)."""
    from huggingface_hub import constants

    return not constants.HF_HUB_DISABLE_XET and find_spec("hf_xet") is not None


def upload(
    operations: list[Any],
    url: str,
    headers: dict[str, str],
    tell: "Callable[[str, int], None]",
    stop: threading.Event | None,
) -> None:
    """Upload the contents of additions; `url` is where the Hub hands out write tokens.

    The token is requested here, since refusals get a sentence this way, and hf_xet itself waits minutes for an absent
    Hub.
    """
    import hf_xet

    granted = retries.again(lambda: _grant(url, headers), stop)
    session = hf_xet.XetSession()
    seen = _UploadedBytes()
    commit = session.new_upload_commit(
        endpoint=granted["casUrl"],
        token=granted["accessToken"],
        token_expiry_unix_secs=int(granted["exp"]),
        token_refresh_url=url,
        token_refresh_headers=headers,
        custom_headers={name: value for name, value in headers.items() if name.lower() != "authorization"},
        progress_callback=seen,
    )
    for operation in operations:
        sha256 = operation.upload_info.sha256.hex()
        if isinstance(operation.path_or_fileobj, bytes):
            commit.start_upload_bytes(operation.path_or_fileobj, sha256=sha256)
        else:
            commit.start_upload_file(str(operation.path_or_fileobj), sha256=sha256)
    text = say("publish.uploading", file=", ".join(operation.path_in_repo for operation in operations)[:120])
    _finish(commit, seen, lambda: tell(text, seen.done))


def _grant(url: str, headers: dict[str, str]) -> dict[str, Any]:
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status

    response = get_session().get(url, headers=headers)
    hf_raise_for_status(response)
    granted = response.json()
    if not {"casUrl", "accessToken", "exp"} <= granted.keys():
        raise ValueError("Malformed response from server")
    return granted


class _UploadedBytes:
    """The progress that hf_xet reports every tenth of a second: how many bytes are uploaded, and when that last
    changed."""

    def __init__(self) -> None:
        self.done, self.moved, self.since = 0, -1, time.monotonic()

    def __call__(self, group: Any, items: Any) -> None:
        moved = group.total_bytes_completed + group.total_transfer_bytes_completed
        if moved != self.moved:
            self.moved, self.since = moved, time.monotonic()
        self.done = group.total_bytes_completed

    @property
    def stuck(self) -> bool:
        return time.monotonic() - self.since > retries.patience.answer


def _finish(commit: Any, seen: _UploadedBytes, tell: "Callable[[], None]") -> None:
    """Wait until everything is uploaded, reporting progress; end it when stopped, or when nothing moves any more.

    Raises what hf_xet raised; by itself it would retry for minutes.
    """
    failed: list[BaseException] = []
    ended = threading.Event()

    def wait() -> None:
        try:
            commit.wait_to_finish()
        except BaseException as error:
            failed.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    while not ended.wait(_TICK_SECONDS):
        try:
            tell()
        except UserError:
            commit.abort()
            raise
        if seen.stuck:
            commit.abort()
            raise ConnectionError("no progress")
    thread.join()
    if failed and not isinstance(failed[0], OSError):
        raise ConnectionError(str(failed[0])) from failed[0]
    if failed:
        raise failed[0]
    tell()
