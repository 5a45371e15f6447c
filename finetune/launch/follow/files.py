"""Folders of a job's private repository: list its checkpoints, download a folder and check its hashes."""

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.hub.retries import again

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_CHECKPOINT = re.compile(r"checkpoints/checkpoint-(\d+)/.+")
_BLOCK = 2**20


def checkpoint_steps(paths: list[str]) -> list[int]:
    """Return the steps of the checkpoints among a repository's files, in order. Each comes in one commit."""
    return sorted({int(match[1]) for path in paths if (match := _CHECKPOINT.fullmatch(path))})


def bring_folder(
    client: "HfApi", token: str, repo_id: str, folder: str, target: Path, room: Callable[[int], None] | None = None
) -> bool:
    """Download a folder of a model repository; it appears at `target` complete, or not at all.

    Every file must have the hash that the repository lists. `room` is called with the size in bytes before the download
    and may raise. Returns False where there is no such folder or where `target` exists. Raises UserError for a file
    that arrives with other bytes, and what the client raises.
    """
    from huggingface_hub import snapshot_download

    info = again(lambda: client.model_info(repo_id, revision="main", files_metadata=True, token=token))
    listed = {file.rfilename: file for file in info.siblings or [] if file.rfilename.startswith(f"{folder}/")}
    if not listed or target.exists():
        return False
    if room is not None:
        room(sum(file.size or 0 for file in listed.values()))
    part = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.part"
    try:
        access: dict[str, Any] = {"revision": info.sha, "endpoint": client.endpoint, "token": token}
        again(lambda: snapshot_download(repo_id, local_dir=part, allow_patterns=[f"{folder}/*"], **access))
        for name, file in listed.items():
            _check(part / name, file, name, repo_id)
        if not target.exists():
            os.rename(part / folder, target)
        return True
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check(path: Path, listed: Any, name: str, repo_id: str) -> None:
    """Raise UserError unless the file has the listed SHA-256 (large files) or git blob id (small files)."""
    large = listed.lfs is not None
    digest = hashlib.sha256() if large else hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != (listed.lfs.sha256 if large else listed.blob_id):
        raise UserError("job.damaged", value=name, repo=repo_id)
