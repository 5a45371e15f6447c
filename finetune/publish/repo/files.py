"""Select the files of a folder that go to the Hub: those of its kind, without secrets and paths of this machine."""

import hashlib
import json
import re
from pathlib import Path

from core.errors import UserError
from core.workspace import Owner
from finetune.publish.repo.scan import VOCABULARY, WEIGHTS, PlannedFile, look_inside, machine_path, read
from inference.models.hub_files import PICKLES

__all__ = ["WEIGHTS", "PlannedFile", "collect", "git_blob_id", "machine_path", "made", "sha256_of"]

_CONFIGURATION = re.compile(
    r"(config|generation_config|adapter_config|tokenizer_config|special_tokens_map|added_tokens|chat_template"
    r"|preprocessor_config|processor_config|(adapter_)?model\.safetensors\.index)\.json"
    r"|(additional_chat_templates/[\w-]+|chat_template)\.jinja"
)
_PAPERS = re.compile(r"(LICEN[SC]E|NOTICE|USE_POLICY)([._-][\w.-]{1,60})?")
_PRESETS = re.compile(r"generation_config\.json|presets/[\w.-]+\.json|presets\.(json|md)|[\w-]+\.yaml")
_GGUF = re.compile(r"[\w.-]+\.gguf|Modelfile([._-][\w.-]+)?")
_DATA = re.compile(r"(data/)?[\w.-]+\.(parquet|jsonl|csv)|(report|dataset_infos?)\.json")
_SPACE = re.compile(r"[\w-]+\.(py|css|txt|json|html|js)")
_MODEL = (WEIGHTS, _CONFIGURATION, VOCABULARY)
_ALLOWED: dict[str, tuple[re.Pattern[str], ...]] = {
    "adapter": _MODEL,
    "merged": _MODEL,
    "gguf": (_GGUF, _CONFIGURATION, VOCABULARY),
    "presets": (_CONFIGURATION, _PRESETS),
    "dataset": (_DATA,),
    "space": (_SPACE,),
}
_CONTENT = {
    "adapter": (WEIGHTS, "publish.no_weights"),
    "merged": (WEIGHTS, "publish.no_weights"),
    "gguf": (re.compile(r".+\.gguf"), "publish.nothing_there"),
    "presets": (re.compile(r".+\.(json|yaml)"), "publish.nothing_there"),
    "dataset": (re.compile(r".+\.(parquet|jsonl|csv)"), "publish.nothing_there"),
    "space": (re.compile(r"app\.py"), "publish.nothing_there"),
}
WRITTEN_ANEW = ("README.md", "tunescope.json")
_LARGE = re.compile(r".+\.(safetensors|gguf|parquet)")
_LARGEST, _LARGEST_OTHER = 50 * 10**9, 200 * 10**6


def made(path: str, content: bytes) -> PlannedFile:
    """Make a planned file that exists in memory only."""
    return PlannedFile(path, len(content), hashlib.sha256(content).hexdigest(), content)


def collect(
    folder: Path, owner: Owner, kind: str = "adapter", base: str | None = None, revision: str | None = None
) -> list[PlannedFile]:
    """Return the files of a folder that go to the Hub, in the order of their paths.

    `adapter_config.json` goes as a copy that names the base model as others find it. Raises UserError, naming the file,
    for one that does not belong to that kind, is too large, or holds a pickle, a secret or a path of this machine.
    """
    paths = [path for path in sorted(folder.rglob("*")) if not path.is_dir() or path.is_symlink()]
    wanted = [path for path in paths if path.relative_to(folder).as_posix() not in WRITTEN_ANEW]
    files = [_planned(path, path.relative_to(folder).as_posix(), kind, base, revision) for path in wanted]
    content, code = _CONTENT[kind]
    if not any(content.fullmatch(file.path) for file in files):
        raise UserError(code, folder=folder.parent.name)
    for file in files:
        look_inside(file, owner)
    return files


def _planned(path: Path, name: str, kind: str, base: str | None, revision: str | None) -> PlannedFile:
    if PICKLES.fullmatch(name):
        raise UserError("publish.pickle", file=name)
    if path.is_symlink() or not path.is_file() or not _listed(name, kind):
        raise UserError("publish.foreign_file", file=name)
    size = path.stat().st_size
    most = _LARGEST if _LARGE.fullmatch(name) else _LARGEST_OTHER
    if size > most:
        raise UserError("publish.oversized", file=name, size=size // 10**6, limit=most // 10**6)
    if name == "adapter_config.json" and base is not None:
        config = {**read(name, path.read_bytes()), "base_model_name_or_path": base, "revision": revision}
        return made(name, json.dumps(config, ensure_ascii=False, indent=2).encode() + b"\n")
    return PlannedFile(name, size, sha256_of(path), path)


def _listed(name: str, kind: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in (*_ALLOWED[kind], _PAPERS))


def git_blob_id(content: bytes) -> str:
    """Return the id of a content in git (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects)."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
