"""The configs and splits of a dataset repository's files, by its README or by their names, without a request."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import yaml

from core.errors import UserError
from finetune.config.yaml_reader import plain
from finetune.data.importing.streams import EXTENSIONS

Splits = dict[str, list[str]]
"""The data files of each split, by its name."""
DEFAULT = "default"
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


def find_configs(paths: Sequence[str], readme: str) -> tuple[dict[str, Splits], str | None]:
    """Return the configs with their splits and data files, and the config to use where none is named.

    They follow the `configs` in the front matter of the README; without them, folder and file names: a folder for each
    config, `train`, `validation` or `test` in the path or `NAME-00000-of-00001` for the split, else all is "train".
    """
    data = sorted(path for path in paths if _is_data(path))
    if any(not _plain(path).endswith(".txt") for path in data):
        data = [path for path in data if not _plain(path).endswith(".txt")]
    declared, default = _declared_configs(data, readme)
    configs = declared or _folder_configs(data)
    return configs, DEFAULT if default is None and DEFAULT in configs else default


def _plain(path: str) -> str:
    return path.lower().removesuffix(".gz")


def _is_data(path: str) -> bool:
    name = _plain(path.rsplit("/", 1)[-1])
    hidden = any(part.startswith((".", "_")) for part in path.split("/"))
    return not hidden and name not in _NO_DATA and name.rsplit(".", 1)[-1] in EXTENSIONS and "." in name


def _declared_configs(data: Sequence[str], readme: str) -> tuple[dict[str, Splits], str | None]:
    """Return the README's `configs` and the default; empty where the README has no valid ones."""
    entries = _front_matter(readme).get("configs")
    configs: dict[str, Splits] = {}
    default = None
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        name = str(entry.get("config_name", DEFAULT))
        splits = _declared_splits(data, entry)
        if splits:
            configs[name] = splits
            default = name if entry.get("default") is True else default
    return configs, default


def _declared_splits(data: Sequence[str], entry: dict[str, Any]) -> Splits:
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
    """Return the paths that match glob patterns, each pattern relative to the folder, each path once."""
    found: dict[str, None] = {}
    for pattern in patterns:
        shape = f"{folder}/{pattern}" if folder else str(pattern)
        found |= dict.fromkeys(path for path in data if _fits(path, shape))
    return list(found)


def _fits(path: str, pattern: str) -> bool:
    """Return whether a glob pattern matches a path: `**` stands for any folders, `*` and `?` stay within one name.

    The work is at most names of the path times names of the pattern, since the pattern is untrusted.
    """
    names = path.split("/")
    reached = {0}
    for part in pattern.removeprefix("./").split("/"):
        if part.startswith("**") and reached:
            reached = set(range(min(reached), len(names) + 1))
        if part != "**":
            reached = {index + 1 for index in reached if index < len(names) and fnmatchcase(names[index], part)}
    return len(names) in reached


def _folder_configs(data: Sequence[str]) -> dict[str, Splits]:
    tops = {path.split("/")[0] if "/" in path else "" for path in data}
    named = tops and all(top and top != "data" and not _WORD.fullmatch(top) for top in tops)
    if not named or len(tops) == 1:
        return {DEFAULT: by_name(data)} if data else {}
    return {top: by_name([path for path in data if path.startswith(top + "/")]) for top in sorted(tops)}


def by_name(paths: Iterable[str]) -> Splits:
    """Return the splits by the names of files and folders."""
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
    """Return the README's front matter; empty where it is not plain YAML, since it is untrusted."""
    found = _FRONT_MATTER.match(readme)
    try:
        facts = plain(found[1]) if found else None
    except (yaml.YAMLError, ValueError, UserError):
        return {}
    return facts if isinstance(facts, dict) else {}
