"""A tokenizer as GGUF stores it: the tokens in order, their types, merges or scores, and the pre-tokenizer.

llama.cpp knows pre-tokenizers by name only, so a tokenizer with another one is refused: its tokens would differ.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UserError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {_WORDS + r"\p{N}" + _REST: "qwen2", _WORDS + r"\p{N}{1,3}" + _REST: "llama-bpe"}
KNOWN_SPLITS = ("gpt-2", "smollm", "llama-bpe", "qwen2", "sentencepiece")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_SPACE = "▁"


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer's vocabulary. `model` is "gpt2" (byte-level BPE, with `merges`) or "llama" (SentencePiece, with
    `scores`); `pre` names the pre-tokenizer; `special` holds the ids of bos, eos, unk and pad, those that exist."""

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str] | None
    scores: list[float] | None
    special: dict[str, int]
    add_bos: bool
    add_eos: bool
    space_prefix: bool | None
    chat_template: str | None = field(repr=False, default=None)


def read(folder: Path, size: int) -> Vocabulary:
    """Return the vocabulary of a tokenizer folder, padded to `size`, the rows of the embeddings. Raises UserError."""
    from inference.models.loading import load_tokenizer

    tokenizer = load_tokenizer(folder)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    model = backend["model"]
    if model.get("type") != "BPE":
        raise UserError("kinds.tokenizer", value=str(model.get("type"))[:40], known=", ".join(KNOWN_SPLITS))
    sentencepiece = bool(model.get("byte_fallback"))
    pre = "default" if sentencepiece else _pre(backend)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    tokens, types = _tokens(backend, size, tokenizer.unk_token if sentencepiece else None, sentencepiece)
    return Vocabulary(
        model="llama" if sentencepiece else "gpt2",
        pre=pre,
        tokens=tokens,
        types=types,
        merges=None if sentencepiece else merges,
        scores=_scores(tokens, merges) if sentencepiece else None,
        special=_special(tokenizer, size),
        add_bos=_adds(tokenizer, tokenizer.bos_token_id, 0),
        add_eos=_adds(tokenizer, tokenizer.eos_token_id, -1),
        space_prefix=_space_prefix(backend) if sentencepiece else None,
        chat_template=_chat_template(tokenizer),
    )


def write(vocabulary: Vocabulary, writer: Any) -> None:
    """Write the vocabulary to a GGUFWriter."""
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges is not None:
        writer.add_token_merges(vocabulary.merges)
    for name, token_id in vocabulary.special.items():
        getattr(writer, f"add_{name}_token_id")(token_id)
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_eos_token(vocabulary.add_eos)
    if vocabulary.space_prefix is not None:
        writer.add_add_space_prefix(vocabulary.space_prefix)
    if vocabulary.chat_template:
        writer.add_chat_template(vocabulary.chat_template)


def _pre(backend: dict[str, Any]) -> str:
    """Return llama.cpp's name for the pre-tokenizer. Raises UserError where it has none."""
    outer = backend.get("pre_tokenizer") or {}
    steps = outer.get("pretokenizers", [outer])
    kinds = [step.get("type") for step in steps]
    plain = steps[-1].get("type") == "ByteLevel" and not steps[-1].get("add_prefix_space")
    found = None
    if plain and kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        found = "gpt-2"
    elif plain and kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        found = "smollm" if steps[1].get("use_regex", True) else None
    elif plain and kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        found = _SPLITS.get(steps[0].get("pattern", {}).get("Regex", ""))
    if found is None:
        raise UserError("kinds.tokenizer", value="+".join(map(str, kinds))[:80], known=", ".join(KNOWN_SPLITS))
    return found


def _tokens(
    backend: dict[str, Any], size: int, unknown: str | None, sentencepiece: bool
) -> tuple[list[str], list[int]]:
    """Return the tokens by id and the type of each; ids without a token are padded, so that every row has a name."""
    added = {token["id"]: token for token in backend.get("added_tokens", [])}
    by_id = {number: text for text, number in backend["model"]["vocab"].items()}
    by_id |= {number: token["content"] for number, token in added.items()}
    if max(by_id) >= size:
        raise UserError("kinds.too_many_tokens", count=max(by_id) + 1, rows=size)
    tokens, types = [], []
    for number in range(size):
        text = by_id.get(number)
        tokens.append(f"[PAD{number}]" if text is None else text)
        types.append(_type(text, added.get(number), unknown, sentencepiece))
    return tokens, types


def _type(text: str | None, added: dict[str, Any] | None, unknown: str | None, sentencepiece: bool) -> int:
    if text is None:
        return UNUSED
    if text == unknown:
        return UNKNOWN
    if sentencepiece and _BYTE.fullmatch(text):
        return BYTE
    if added is not None:
        return CONTROL if added["special"] else USER_DEFINED
    return NORMAL


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """Return scores such that SentencePiece merges as BPE does: the negated rank of the first merge that makes a
    token."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault(merge.replace(" ", ""), rank)
    return [-float(ranks[token]) if token in ranks else 0.0 for token in tokens]


def _special(tokenizer: Any, size: int) -> dict[str, int]:
    ids = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "unk", "pad")}
    return {name: number for name, number in ids.items() if isinstance(number, int) and 0 <= number < size}


def _adds(tokenizer: Any, token_id: int | None, index: int) -> bool:
    """Return whether the tokenizer puts this token before (index 0) or behind (-1) a text."""
    ids = tokenizer("a")["input_ids"]
    return token_id is not None and len(ids) > 1 and ids[index] == token_id


def _space_prefix(backend: dict[str, Any]) -> bool:
    outer = [backend.get("normalizer") or {}, backend.get("pre_tokenizer") or {}]
    steps = [step for part in outer for step in part.get("normalizers", part.get("pretokenizers", [part]))]
    for step in steps:
        if step.get("type") == "Prepend" and step.get("prepend") == _SPACE:
            return True
        if step.get("type") == "Metaspace":
            return step.get("prepend_scheme", "always") != "never"
    return False


def _chat_template(tokenizer: Any) -> str | None:
    template = tokenizer.chat_template
    return template.get("default") if isinstance(template, dict) else template
