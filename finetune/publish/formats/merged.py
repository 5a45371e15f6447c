"""A merged model: base plus adapter as one set of sharded safetensors, written as a stream of rows.

Its memory depends on neither the model's nor the shards' size: a block of rows and one pair of LoRA matrices.
"""

import json
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.files import read_json, write_json
from core.words import say
from finetune.publish.formats.build_folder import BuildProgress
from finetune.publish.formats.lora_delta import WeightPlan
from finetune.publish.formats.trained_run import TrainedFolders
from finetune.publish.formats.weights import Reader, WeightPart
from inference.models.fingerprint import INDEX

_BLOCK = 8 * 2**20
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
)
_LOCAL_NAMES = ("_name_or_path", "_model_name_or_path", "_commit_hash")


@dataclass(frozen=True)
class Shard:
    """One safetensors file of the result."""

    name: str
    parts: list[WeightPart]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)


def shards(plan: WeightPlan, most: int) -> list[Shard]:
    """Return the parts in files of at most `most` bytes, in order; a larger tensor has a file of its own."""
    groups: list[list[WeightPart]] = [[]]
    for part in plan.parts:
        if groups[-1] and sum(known.size for known in groups[-1]) + part.size > most:
            groups.append([])
        groups[-1].append(part)
    if len(groups) == 1:
        return [Shard("model.safetensors", groups[0])]
    return [
        Shard(f"model-{number:05d}-of-{len(groups):05d}.safetensors", parts)
        for number, parts in enumerate(groups, start=1)
    ]


def write(plan: WeightPlan, source: TrainedFolders, folder: Path, most: int, progress: BuildProgress) -> dict[str, Any]:
    """Write the merged model into `folder`; returns its facts for the card."""
    files = shards(plan, most)
    largest = max(shard.size for shard in files)
    with Reader() as reader:
        for shard in files:
            progress.step(say("kinds.merging", file=shard.name))
            _write_shard(shard, folder / shard.name, reader, min(_BLOCK, max(largest // 8, 4096)), progress)
    if len(files) > 1:
        weight_map = {part.name: shard.name for shard in files for part in shard.parts}
        write_json(folder / INDEX, {"metadata": {"total_size": plan.size}, "weight_map": weight_map})
    _write_config(plan, source, folder)
    copy_tokenizer(source.tokenizer, folder)
    return {
        "shards": len(files),
        "largest_shard": largest,
        "tensors": len(plan.parts),
        "changed_tensors": plan.changed,
        "parameters": sum(part.numbers for part in plan.parts),
        "untied": plan.untied,
        "dtypes": sorted({part.dtype for part in plan.parts}),
    }


def _write_shard(shard: Shard, path: Path, reader: Reader, block: int, progress: BuildProgress) -> None:
    """Write one file (https://github.com/huggingface/safetensors#format), tensor after tensor."""
    import torch

    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for part in shard.parts:
        header[part.name] = {
            "dtype": part.dtype,
            "shape": list(part.shape),
            "data_offsets": [offset, offset + part.size],
        }
        offset += part.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for part in shard.parts:
            for rows in reader.blocks(part, block):
                content: Any = rows.contiguous().reshape(-1).view(torch.uint8).numpy()
                file.write(content)
                progress.add(content.nbytes)


def _write_config(plan: WeightPlan, source: TrainedFolders, folder: Path) -> None:
    config = {key: value for key, value in read_json(source.base / "config.json").items() if key not in _LOCAL_NAMES}
    if plan.untied:
        config["tie_word_embeddings"] = False
    write_json(folder / "config.json", config)
    decoding = next(
        (
            path
            for path in (source.tokenizer / "generation_config.json", source.base / "generation_config.json")
            if path.is_file()
        ),
        None,
    )
    if decoding is not None:
        shutil.copyfile(decoding, folder / "generation_config.json")


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the files of a tokenizer and its chat template."""
    for name in TOKENIZER:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if (source / "additional_chat_templates").is_dir():
        shutil.copytree(source / "additional_chat_templates", folder / "additional_chat_templates")
