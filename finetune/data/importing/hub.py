"""Datasets on the Hub: finds a split of a repository and downloads its files.

Files are fetched with huggingface_hub alone, at one commit, into a folder that is deleted after the import; no code
of the repository is run.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import references
from core.errors import UserError
from core.files import disk_full_at
from core.hub.errors import classify, key_of
from core.hub.reach import endpoint, mark_unreachable, reachable
from core.references import Hub
from core.workspace import Owner
from finetune.data.importing.hub_configs import DEFAULT, find_configs
from finetune.data.importing.raw_rows import OnProgress
from finetune.data.importing.streams import EXTENSIONS
from finetune.data.limits import MIB, ImportLimits

_SENTENCES = {
    "gated": "data.hub_gated",
    "no_revision": "data.hub_revision",
    "no_repository": "data.hub_missing",
    "answered": "data.hub_refused",
}
_INFO_SECONDS = 15
_README_BYTES = 2 * MIB


@dataclass(frozen=True)
class Split:
    """One split of a repository at one commit: its data files in order, with their sizes in bytes (0 if unknown)."""

    repo_id: str
    commit: str
    config: str
    name: str
    files: dict[str, int]

    @property
    def title(self) -> str:
        """The split's name for people: "owner/name (config, split)"."""
        part = self.name if self.config == DEFAULT else f"{self.config}, {self.name}"
        return f"{self.repo_id} ({part})"

    def source(self) -> dict[str, Any]:
        """Return where its rows came from, for the report."""
        return {
            "type": "hub",
            "repo_id": self.repo_id,
            "revision": self.commit,
            "config": self.config,
            "split": self.name,
        }


def find_split(
    repo_id: str, config: str | None, split: str | None, revision: str | None, owner: Owner, token: str | bool
) -> Split:
    """Find a split of a repository. Raises UserError as `importing.import_hub` says."""
    repo = _reference(repo_id, revision, owner)
    if not reachable():
        raise UserError("data.hub_offline", repo=repo.repo_id, endpoint=endpoint())
    commit, sizes = _listing(repo, token)
    readme = _readme(repo, commit, token) if 0 < sizes.get("README.md", 0) <= _README_BYTES else ""
    configs, default = find_configs(list(sizes), readme)
    if not configs:
        raise UserError("data.hub_no_files", repo=repo.repo_id, extensions=", ".join(f".{end}" for end in EXTENSIONS))
    chosen = _choose("config", config, list(configs), default, repo.repo_id)
    name = _choose("split", split, list(configs[chosen]), None, repo.repo_id)
    return Split(repo.repo_id, commit, chosen, name, {path: sizes[path] for path in configs[chosen][name]})


def download(
    split: Split, folder: Path, token: str | bool, progress: OnProgress | None, limits: ImportLimits
) -> list[Path]:
    """Download the files of a split into a folder. Raises UserError where they are too large or the download fails."""
    total = sum(split.files.values())
    if total > limits.file_bytes:
        raise UserError("data.hub_too_large", repo=split.repo_id, size=total // MIB, most=limits.file_bytes // MIB)
    paths, done = [], 0
    for path, size in split.files.items():
        paths.append(_fetch(Hub(split.repo_id, split.commit), path, folder, token))
        done += size
        if progress:
            progress(done, max(total, 1))
    return paths


def _choose(what: str, wanted: str | None, choices: list[str], default: str | None, repo: str) -> str:
    shown = ", ".join(choices[:50])[:500]
    if wanted:
        if wanted not in choices:
            raise UserError(f"data.hub_{what}", repo=repo, value=wanted[:80], choices=shown)
        return wanted
    if default is None and len(choices) > 1:
        raise UserError(f"data.hub_which_{what}", repo=repo, choices=shown)
    return default or choices[0]


def _reference(repo_id: str, revision: str | None, owner: Owner) -> Hub:
    text = repo_id.strip() + (f"@{revision.strip()}" if revision and revision.strip() else "")
    refused = UserError("data.hub_name", value=text[:80])
    if text.startswith(("/", ".", "~")):
        raise refused
    try:
        reference = references.parse(text, owner)
    except UserError as error:
        raise refused from error
    if not isinstance(reference, Hub):
        raise refused
    return reference


def _listing(repo: Hub, token: str | bool) -> tuple[str, dict[str, int]]:
    """Return the current commit of a repository, and its files with their sizes."""
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        info = HfApi(endpoint=endpoint()).dataset_info(
            repo.repo_id, revision=repo.revision, files_metadata=True, token=token, timeout=_INFO_SECONDS
        )
    except (HfHubHTTPError, httpx2.HTTPError, OSError, ValueError) as error:
        raise explain(error, repo) from error
    return str(info.sha), {file.rfilename: file.size or 0 for file in info.siblings or []}


def _readme(repo: Hub, commit: str, token: str | bool) -> str:
    with tempfile.TemporaryDirectory(prefix="tunescope-hub-") as folder:
        path = _fetch(Hub(repo.repo_id, commit), "README.md", Path(folder), token)
        return path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")


def _fetch(repo: Hub, path: str, folder: Path, token: str | bool) -> Path:
    import httpx2
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(
            hf_hub_download(
                repo.repo_id,
                path,
                repo_type="dataset",
                revision=repo.revision,
                local_dir=folder,
                token=token,
                endpoint=endpoint(),
            )
        )
    except (HfHubHTTPError, httpx2.HTTPError, OSError, ValueError) as error:
        raise explain(error, repo) from error


def explain(error: Exception, repo: Hub) -> UserError:
    """Return the UserError for an error that huggingface_hub raised about a dataset."""
    refusal = classify(error)
    if refusal is not None and refusal.kind == "no_room":
        return disk_full_at(Path(tempfile.gettempdir()))
    key = key_of(refusal, _SENTENCES) if refusal is not None else None
    if refusal is None or key is None:
        mark_unreachable()
        return UserError("data.hub_offline", repo=repo.repo_id, endpoint=endpoint())
    return UserError(key, repo=repo.repo_id, revision=repo.revision or "", reason=f"HTTP {refusal.status}")
