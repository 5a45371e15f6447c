"""Datasets on the Hub: which configs and splits a repository has, and bringing one split's files to the disk.

Files are fetched with huggingface_hub alone, at one commit, into a folder that goes away after the import; nothing
in the repository is run.
"""

import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from core import references
from core.errors import UserError
from core.references import Hub
from core.workspace import Owner
from finetune.data.limits import MIB, Limits
from finetune.data.reading import OnProgress
from finetune.data.streams import EXTENSIONS
from finetune.plain_yaml import plain
from inference.hub import endpoint, reachable, unreachable_now

Splits = dict[str, list[str]]
DEFAULT = "default"
_INFO_SECONDS = 15
_README_BYTES = 2 * MIB
_NO_DATA = {"dataset_infos.json", "dataset_info.json", "config.json", "package.json", "requirements.txt", "license.txt"}
_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_WORD = re.compile(r"(?<![A-Za-z])(" + "|".join(_SPLIT_WORDS) + r")(?![A-Za-z])", re.IGNORECASE)
_SHARD = re.compile(r"([\w.+-]+?)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?\.\w+")
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)


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
        """What a person calls it: "owner/name (config, split)"."""
        part = self.name if self.config == DEFAULT else f"{self.config}, {self.name}"
        return f"{self.repo_id} ({part})"

    def source(self) -> dict[str, Any]:
        """Where its rows came from, for the report."""
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
    """Look a split up. Raises UserError as `importing.import_hub` says."""
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


def download(split: Split, folder: Path, token: str | bool, progress: OnProgress | None, limits: Limits) -> list[Path]:
    """Bring the files of a split into a folder. Raises UserError where they are too large or do not come."""
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


def find_configs(paths: Sequence[str], readme: str) -> tuple[dict[str, Splits], str | None]:
    """The configs with their splits and data files, and the config to take where none is named.

    As the `configs` in the front matter of the README say; without them by folder and file names: a folder for each
    config, `train`, `validation` or `test` in the path or `NAME-00000-of-00001` for the split, else all is "train".
    """
    data = sorted(path for path in paths if _is_data(path))
    if any(not _plain(path).endswith(".txt") for path in data):
        data = [path for path in data if not _plain(path).endswith(".txt")]
    told, default = _told_configs(data, readme)
    configs = told or _folder_configs(data)
    return configs, DEFAULT if default is None and DEFAULT in configs else default


def _plain(path: str) -> str:
    return path.lower().removesuffix(".gz")


def _is_data(path: str) -> bool:
    name = _plain(path.rsplit("/", 1)[-1])
    hidden = any(part.startswith((".", "_")) for part in path.split("/"))
    return not hidden and name not in _NO_DATA and name.rsplit(".", 1)[-1] in EXTENSIONS and "." in name


def _told_configs(data: Sequence[str], readme: str) -> tuple[dict[str, Splits], str | None]:
    """What the README's `configs` say; empty where they say nothing that holds."""
    entries = _front_matter(readme).get("configs")
    configs: dict[str, Splits] = {}
    default = None
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        name = str(entry.get("config_name", DEFAULT))
        splits = _told_splits(data, entry)
        if splits:
            configs[name] = splits
            default = name if entry.get("default") is True else default
    return configs, default


def _told_splits(data: Sequence[str], entry: dict[str, Any]) -> Splits:
    folder = str(entry.get("data_dir") or "").strip("/")
    inside = [path for path in data if not folder or path.startswith(folder + "/")]
    files = entry.get("data_files")
    if files is None:
        return by_name(inside)
    if isinstance(files, dict):
        files = [{"split": split, "path": path} for split, path in files.items()]
    files = [files] if isinstance(files, str) else files if isinstance(files, list) else []
    if all(isinstance(pattern, str) for pattern in files):
        return by_name(_matching(inside, files, folder))
    splits: Splits = {}
    for part in files:
        if isinstance(part, dict) and "path" in part:
            patterns = part["path"] if isinstance(part["path"], list) else [part["path"]]
            splits.setdefault(str(part.get("split", "train")), []).extend(_matching(inside, patterns, folder))
    return {name: paths for name, paths in splits.items() if paths}


def _matching(data: Sequence[str], patterns: Iterable[Any], folder: str) -> list[str]:
    """The paths that glob patterns name, each pattern relative to the folder, each path once."""
    found: dict[str, None] = {}
    for pattern in patterns:
        shape = f"{folder}/{pattern}" if folder else str(pattern)
        found |= dict.fromkeys(path for path in data if _fits(path, shape))
    return list(found)


def _fits(path: str, pattern: str) -> bool:
    """Whether a glob pattern names a path: `**` stands for any folders, `*` and `?` stay within one name.

    The work is at most names of the path times names of the pattern, whatever a stranger wrote there.
    """
    names = path.split("/")
    reached = {0}
    for part in pattern.removeprefix("./").split("/"):
        if part.startswith("**") and reached:
            reached = set(range(min(reached), len(names) + 1))
        if part != "**":
            reached = {place + 1 for place in reached if place < len(names) and fnmatchcase(names[place], part)}
    return len(names) in reached


def _folder_configs(data: Sequence[str]) -> dict[str, Splits]:
    tops = {path.split("/")[0] if "/" in path else "" for path in data}
    named = tops and all(top and top != "data" and not _WORD.fullmatch(top) for top in tops)
    if not named or len(tops) == 1:
        return {DEFAULT: by_name(data)} if data else {}
    return {top: by_name([path for path in data if path.startswith(top + "/")]) for top in sorted(tops)}


def by_name(paths: Iterable[str]) -> Splits:
    """Splits by the names of files and folders."""
    splits: Splits = {}
    rest: list[str] = []
    for path in paths:
        shard, words = _SHARD.fullmatch(path.rsplit("/", 1)[-1]), _WORD.findall(path)
        if shard and shard[1].lower() not in _SPLIT_WORDS:
            splits.setdefault(shard[1], []).append(path)
        elif words:
            splits.setdefault(_SPLIT_WORDS[words[-1].lower()], []).append(path)
        else:
            rest.append(path)
    return splits or ({"train": rest} if rest else {})


def _front_matter(readme: str) -> dict[str, Any]:
    """What stands in the README's front matter; empty where that is no plain YAML: a stranger may have written it."""
    found = _FRONT_MATTER.match(readme)
    try:
        facts = plain(found[1]) if found else None
    except (yaml.YAMLError, ValueError, UserError):
        return {}
    return facts if isinstance(facts, dict) else {}


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
    """The commit a repository stands at and its files with their sizes."""
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
    """The sentence for an error that huggingface_hub raised about a dataset."""
    from huggingface_hub import errors

    name = repo.repo_id
    if isinstance(error, errors.GatedRepoError):
        return UserError("data.hub_gated", repo=name)
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError("data.hub_revision", repo=name, revision=repo.revision or "")
    if isinstance(error, errors.RepositoryNotFoundError):
        return UserError("data.hub_missing", repo=name)
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        return UserError("data.hub_refused", repo=name, reason=f"HTTP {status}")
    unreachable_now()
    return UserError("data.hub_offline", repo=name, endpoint=endpoint())
