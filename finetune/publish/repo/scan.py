"""Scan files before others can read them: secrets, pickles, folders of this machine."""

import json
import re
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core import settings
from core.errors import UserError
from core.workspace import Owner

WEIGHTS = re.compile(r"(adapter_model|model)(-\d+-of-\d+)?\.safetensors")
VOCABULARY = re.compile(r"(tokenizer|vocab)\.json|(vocab|merges)\.txt|(tokenizer|spiece|sentencepiece\.bpe)\.model")
_PLAIN_TEXT = (".md", ".txt", ".py", ".css", ".jinja", ".jsonl", ".csv", ".yaml", ".toml")
_PLAIN_NAMES = ("Modelfile", "LICENSE", "NOTICE", "USE_POLICY")
_PICKLED = re.compile(rb"\x80[\x02-\x05]|PK\x03\x04")
_SECRETS = {
    "Hub": rb"\bhf_(?:oauth_)?[A-Za-z0-9]{20,}",
    "OpenAI": rb"\bsk-(?:proj-|svcacct-|ant-)?[A-Za-z0-9_-]{32,}",
    "AWS": rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub": rb"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})",
    "GitLab": rb"\bglpat-[A-Za-z0-9_-]{20,}",
    "Slack": rb"\bxox[abeoprs]-[A-Za-z0-9-]{20,}",
    "Google": rb"\bAIza[0-9A-Za-z_-]{35}\b",
    "Stripe": rb"\b[rs]k_live_[A-Za-z0-9]{20,}",
    "Weights & Biases": rb"WANDB_API_KEY\W{1,4}[0-9a-f]{40}\b",
    "npm": rb"\bnpm_[A-Za-z0-9]{36}\b",
    "private key": rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
}
_SECRET = re.compile(b"|".join(b"(?P<n%d>%s)" % (index, text) for index, text in enumerate(_SECRETS.values())))
_HUB_TOKEN = re.compile(_SECRETS["Hub"])
_ABSOLUTE = re.compile(r"(/[^/\s{}<>|]+){2,}/?|[A-Za-z]:[\\/][^\s]+|\\\\[^\s]+")
_LARGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class PlannedFile:
    """A file as it will be in the repository: `size` in bytes, and the source of its content (a file, or the bytes)."""

    path: str
    size: int
    sha256: str
    source: Path | bytes = field(repr=False)

    def content(self) -> bytes:
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()


def look_inside(file: PlannedFile, owner: Owner) -> None:
    """Raise UserError for a file that contains a secret or a path of this machine, or is not what its name says."""
    if file.path.endswith(".parquet"):
        _look_at_rows(file, owner)
    elif file.path.endswith(".gguf"):
        _look_at_gguf(file, owner)
    else:
        _look_at_content(file, owner)


def _look_at_content(file: PlannedFile, owner: Owner) -> None:
    content = _header(file) if WEIGHTS.fullmatch(file.path) else file.content()
    if _PICKLED.match(content):
        raise UserError("publish.pickle", file=file.path)
    vocabulary = bool(VOCABULARY.fullmatch(file.path))
    refuse_secrets(file.path, content, owner, only_hub=vocabulary)
    found = None if vocabulary or file.path.endswith(".png") else machine_path(_texts(file.path, content))
    if found:
        raise UserError("publish.path_inside", file=file.path, value=found[:80])


def refuse_secrets(name: str, content: bytes, owner: Owner, *, only_hub: bool = False) -> None:
    """Raise UserError where a content contains the caller's token, or anything like a secret."""
    if isinstance(owner.token, str) and owner.token.encode() in content:
        raise UserError("publish.token_inside", file=name)
    if _HUB_TOKEN.search(content):
        raise UserError("publish.token_inside", file=name)
    found = None if only_hub else _SECRET.search(content)
    if found:
        kind = list(_SECRETS)[int(str(found.lastgroup)[1:])]
        raise UserError("publish.secret_inside", file=name, kind=kind)


def _look_at_rows(file: PlannedFile, owner: Owner) -> None:
    """Scan every text of a table for secrets; paths are allowed, since people write about them."""
    from pyarrow import ArrowException, parquet

    assert isinstance(file.source, Path), "tables are files"
    try:
        with parquet.ParquetFile(file.source) as table:
            for batch in table.iter_batches(batch_size=1000):
                text = "\n".join(strings(batch.to_pylist()))
                refuse_secrets(file.path, text.encode("utf-8", "replace"), owner)
    except (ArrowException, OSError):
        raise UserError("publish.other_content", file=file.path, kind="Parquet") from None


def _look_at_gguf(file: PlannedFile, owner: Owner) -> None:
    """Scan the texts in a GGUF's header, without its vocabulary."""
    assert isinstance(file.source, Path), "weights are files"
    with file.source.open("rb") as content:
        if content.read(4) != b"GGUF":
            raise UserError("publish.other_content", file=file.path, kind="GGUF")
    from gguf import GGUFReader

    try:
        fields = GGUFReader(file.source).fields
    except (ValueError, IndexError, OSError):
        raise UserError("publish.other_content", file=file.path, kind="GGUF") from None
    texts = [
        str(field.contents())
        for name, field in fields.items()
        if not name.startswith("tokenizer.ggml.") and field.types and field.types[-1].name == "STRING"
    ]
    refuse_secrets(file.path, "\n".join(texts).encode("utf-8", "replace"), owner)
    found = machine_path([text for text in texts if "{%" not in text])
    if found:
        raise UserError("publish.path_inside", file=file.path, value=found[:80])


def _header(file: PlannedFile) -> bytes:
    """Return the header of a safetensors file. Raises UserError where the file is something else."""
    assert isinstance(file.source, Path), "weights are files"
    with file.source.open("rb") as weights:
        start = weights.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _LARGEST_HEADER
        header = weights.read(length) if length < min(_LARGEST_HEADER, file.size) else b""
    if not header.startswith(b"{"):
        raise UserError("publish.not_safetensors", file=file.path)
    return header


def read(name: str, content: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises UserError for anything else."""
    try:
        value = json.loads(content)
    except ValueError:
        raise UserError("publish.damaged", file=name) from None
    if not isinstance(value, dict):
        raise UserError("publish.damaged", file=name)
    return value


def _texts(name: str, content: bytes) -> list[str]:
    """Return the strings that may contain a path of this machine."""
    if name.endswith(_PLAIN_TEXT) or name.startswith(_PLAIN_NAMES):
        return [f" {line}" for line in content.decode("utf-8", "replace").splitlines()]
    value = read(name, content)
    return list(strings(value.get("__metadata__", {}) if WEIGHTS.fullmatch(name) else value))


def strings(value: Any) -> Iterator[str]:
    """Yield every text in nested values, with the names of fields."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from (str(key), *strings(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def machine_path(texts: list[str]) -> str | None:
    """Return the first text that is, or contains, a path of this machine."""
    roots = _roots()
    return next((text for text in texts if _ABSOLUTE.fullmatch(text) or roots.search(text)), None)


def _roots() -> re.Pattern[str]:
    """Return a pattern of the folders that this program and its user use, as complete paths: `/data` does not match
    `org/data-model`."""
    known = [settings.home(), settings.cache(), Path(tempfile.gettempdir()), Path.home()]
    names = {str(form) for path in known for form in (path, path.resolve()) if form != Path("/")}
    listed = "|".join(re.escape(name) for name in sorted(names))
    return re.compile(rf"((?<![\w./-])|(?<=file://))({listed})(/|\W|$)")
