"""Which files of a run's `model/` go to the Hub: only those on the list, and none that tells too much."""

import hashlib
import json
import re
import struct
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core import settings
from core.errors import UserError
from core.workspace import Owner
from inference.files import PICKLES

WEIGHTS = re.compile(r"(adapter_model|model)(-\d+-of-\d+)?\.safetensors")
_CONFIGURATION = re.compile(
    r"(config|generation_config|adapter_config|tokenizer_config|special_tokens_map|added_tokens|chat_template"
    r"|preprocessor_config|processor_config|(adapter_)?model\.safetensors\.index)\.json"
    r"|(additional_chat_templates/[\w-]+|chat_template)\.jinja"
)
_VOCABULARY = re.compile(r"(tokenizer|vocab)\.json|(vocab|merges)\.txt|(tokenizer|spiece|sentencepiece\.bpe)\.model")
_WRITTEN_ANEW = ("README.md", "tunescope.json")
_TOKEN = re.compile(rb"\bhf_(?:oauth_)?[A-Za-z0-9]{20,}")
_ABSOLUTE = re.compile(r"(/[^/\s{}<>|]+){2,}/?|[A-Za-z]:[\\/][^\s]+|\\\\[^\s]+")
_LARGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class PlannedFile:
    """A file as it will lie in the repository: `size` in bytes, and where its content is (a file, or the bytes)."""

    path: str
    size: int
    sha256: str
    source: Path | bytes = field(repr=False)

    def content(self) -> bytes:
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()


def made(path: str, content: bytes) -> PlannedFile:
    """A file that exists in memory only."""
    return PlannedFile(path, len(content), hashlib.sha256(content).hexdigest(), content)


def collect(model: Path, base: str, revision: str | None, owner: Owner) -> list[PlannedFile]:
    """The files of a result that go to the Hub, in the order of their paths.

    `adapter_config.json` goes as a copy that names the base as others find it. Raises UserError, naming the file,
    for one that is not on the list, or holds a pickle, a token or a path of this machine.
    """
    paths = [path for path in sorted(model.rglob("*")) if not path.is_dir() or path.is_symlink()]
    wanted = [path for path in paths if path.relative_to(model).as_posix() not in _WRITTEN_ANEW]
    files = [_planned(path, path.relative_to(model).as_posix(), base, revision) for path in wanted]
    if not any(WEIGHTS.fullmatch(file.path) for file in files):
        raise UserError("publish.no_weights", folder=model.parent.name)
    for file in files:
        _look_inside(file, owner)
    return files


def _planned(path: Path, name: str, base: str, revision: str | None) -> PlannedFile:
    if PICKLES.fullmatch(name):
        raise UserError("publish.pickle", file=name)
    if path.is_symlink() or not path.is_file() or not _listed(name):
        raise UserError("publish.foreign_file", file=name)
    if name == "adapter_config.json":
        config = {**_read(name, path.read_bytes()), "base_model_name_or_path": base, "revision": revision}
        return made(name, json.dumps(config, ensure_ascii=False, indent=2).encode() + b"\n")
    return PlannedFile(name, path.stat().st_size, sha256_of(path), path)


def _look_inside(file: PlannedFile, owner: Owner) -> None:
    """Refuse a file that tells what nobody should know."""
    content = _header(file) if WEIGHTS.fullmatch(file.path) else file.content()
    if _TOKEN.search(content) or (isinstance(owner.token, str) and owner.token.encode() in content):
        raise UserError("publish.token_inside", file=file.path)
    found = None if _VOCABULARY.fullmatch(file.path) else machine_path(_texts(file.path, content))
    if found:
        raise UserError("publish.path_inside", file=file.path, value=found[:80])


def _listed(name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in (WEIGHTS, _CONFIGURATION, _VOCABULARY))


def _header(file: PlannedFile) -> bytes:
    """The description at the head of a safetensors file. Raises UserError where the file is something else."""
    assert isinstance(file.source, Path), "weights are files"
    with file.source.open("rb") as weights:
        start = weights.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _LARGEST_HEADER
        header = weights.read(length) if length < min(_LARGEST_HEADER, file.size) else b""
    if not header.startswith(b"{"):
        raise UserError("publish.not_safetensors", file=file.path)
    return header


def _read(name: str, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        raise UserError("publish.damaged", file=name) from None
    if not isinstance(value, dict):
        raise UserError("publish.damaged", file=name)
    return value


def _texts(name: str, content: bytes) -> list[str]:
    """The strings in which a path of this machine could stand."""
    if name.endswith(".jinja"):
        return []
    value = _read(name, content)
    return list(_strings(value.get("__metadata__", {}) if WEIGHTS.fullmatch(name) else value))


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in (key, *_strings(inner))]
    if isinstance(value, list):
        return [text for inner in value for text in _strings(inner)]
    return [value] if isinstance(value, str) else []


def machine_path(texts: list[str]) -> str | None:
    """The first text that is, or contains, a path of this machine."""
    roots = _roots()
    return next((text for text in texts if _ABSOLUTE.fullmatch(text) or roots.search(text)), None)


def _roots() -> re.Pattern[str]:
    """The folders that this program and its person use, as whole paths: `/data` stands not in `org/data-model`."""
    known = [settings.home(), settings.cache(), Path(tempfile.gettempdir()), Path.home()]
    names = {str(form) for path in known for form in (path, path.resolve()) if form != Path("/")}
    listed = "|".join(re.escape(name) for name in sorted(names))
    return re.compile(rf"((?<![\w./-])|(?<=file://))({listed})(/|\W|$)")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
