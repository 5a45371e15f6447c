"""Fingerprints of weights: what a model is, by the bytes of its safetensors files and not by its name."""

import hashlib
import json
import math
import mmap
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from core import settings
from core.errors import UserError
from core.files import read_json, write_json

WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
INDEX = "model.safetensors.index.json"
_KEPT = 500


@dataclass(frozen=True)
class Tensor:
    """Where one tensor is stored: bytes `start` to `end` of its file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    start: int
    end: int


def tensors(path: Path) -> list[Tensor]:
    """Return the tensors of a safetensors file, from its header (https://github.com/huggingface/safetensors#format).

    Raises UserError if the file is truncated or is something else.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        found = [_tensor(name, entry, path, 8 + length) for name, entry in header.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise UserError("models.damaged", file=path.name, folder=path.parent) from error
    if any(tensor.end > size for tensor in found):
        raise UserError("models.damaged", file=path.name, folder=path.parent)
    return found


def _tensor(name: str, entry: dict, path: Path, offset: int) -> Tensor:
    start, end = entry["data_offsets"]
    if not isinstance(entry["dtype"], str) or not all(isinstance(size, int) for size in entry["shape"]):
        raise ValueError("not a tensor")
    return Tensor(name, entry["dtype"], tuple(entry["shape"]), path, offset + start, offset + end)


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a model's weights, the same that transformers opens: `model.safetensors`, or its shards.

    Raises UserError if one is missing, or the index names something else (see `shards`).
    """
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    named = shards(folder)
    missing = [path.name for path in named if not path.is_file()] if named else [INDEX]
    if missing:
        raise UserError("models.damaged", file=missing[0], folder=folder)
    return named


def shards(folder: Path) -> list[Path]:
    """Return the files that a model's index names; none without an index. They need not exist.

    Transformers joins the names to the folder, so that `/...` and `../...` would lead to any file of this machine:
    raises UserError for what is not the name of a shard.
    """
    if not (folder / INDEX).is_file():
        return []
    try:
        names = set(read_json(folder / INDEX)["weight_map"].values())
        if not names or not all(WEIGHTS.fullmatch(name) for name in names):
            raise ValueError("not a shard's name")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError("models.damaged", file=INDEX, folder=folder) from error
    return [folder / name for name in sorted(names)]


def weights(folder: Path) -> list[Tensor]:
    """Return all tensors of a model folder, sorted by name."""
    return _sorted(weight_files(folder))


def _sorted(paths: list[Path]) -> list[Tensor]:
    return sorted((tensor for path in paths for tensor in tensors(path)), key=lambda tensor: tensor.name)


def parameters(folder: Path) -> int:
    """Return the number of a model's parameters."""
    return sum(math.prod(tensor.shape) for tensor in weights(folder))


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 over name, dtype, shape and bytes of each tensor in the order of their names, as 64 hex
    digits.

    It does not depend on how the weights are split into files. Remembered by path, size and time of the files. Raises
    UserError for a damaged file.
    """
    return _known_digest(weight_files(folder))


def file_fingerprint(path: Path) -> str:
    """Return the fingerprint of the weights in one file, such as an adapter's. Raises UserError for a damaged file."""
    return _known_digest([path])


def _known_digest(paths: list[Path]) -> str:
    stamp = _stamp(paths)
    memory = settings.cache() / "fingerprints.json"
    known = _remembered(memory)
    if stamp not in known:
        known[stamp] = _digest(_sorted(paths))
        write_json(memory, dict(list(known.items())[-_KEPT:]))
    return known[stamp]


def _remembered(memory: Path) -> dict[str, str]:
    """Return the remembered fingerprints; none if they cannot be read, since they can be computed again."""
    try:
        return read_json(memory)
    except (OSError, ValueError):
        return {}


def _stamp(paths: list[Path]) -> str:
    facts = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _digest(ordered: list[Tensor]) -> str:
    digest = hashlib.sha256()
    files = {path: _map(path) for path in {tensor.path for tensor in ordered}}
    for tensor in ordered:
        digest.update(json.dumps([tensor.name, tensor.dtype, tensor.shape]).encode())
        with memoryview(files[tensor.path]) as content:
            digest.update(content[tensor.start : tensor.end])
    return digest.hexdigest()


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
