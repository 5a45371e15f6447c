"""The tensors of a base model that an adapter changes, and how; what cannot be merged exactly is refused."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import read_json
from finetune.publish.formats.weights import FLOATS, LowRank, WeightPart
from inference.models import fingerprint
from inference.models.adapters import is_lora, keeps_base
from inference.models.fingerprint import Tensor

HEAD = "lm_head.weight"
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
_PREFIX = "base_model.model."
_PAIRS = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_embedding_A": "embedding_a",
    ".lora_embedding_B": "embedding_b",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
}


@dataclass(frozen=True)
class WeightPlan:
    """The parts of the merged model in the order of the base's files; `untied` where the head no longer shares the
    embeddings; `changed` counts the tensors that the adapter changes."""

    parts: list[WeightPart]
    untied: bool = False
    changed: int = 0

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)


def plan(base: Path, adapter: Path | None) -> WeightPlan:
    """Return what to write for a base model with an adapter, or for a full model. Raises UserError where it cannot be
    merged."""
    config = read_json(base / "config.json")
    found = sorted(fingerprint.weights(base), key=lambda tensor: (tensor.path, tensor.start))
    if config.get("quantization_config") or any(
        tensor.dtype not in FLOATS for tensor in found if len(tensor.shape) > 1
    ):
        raise UserError("kinds.quantised", value=base.name)
    parts = [WeightPart(tensor.name, tensor, tensor.dtype) for tensor in found]
    if adapter is None:
        return WeightPlan(parts)
    settings = read_json(adapter / "adapter_config.json")
    _check(settings)
    changes = _Changes(settings, adapter / "adapter_model.safetensors")
    return _merged(parts, changes, _tied(base, parts))


def _check(settings: dict[str, Any]) -> None:
    """Raise UserError for what is not LoRA, or LoRA with parts that are not a product of two matrices."""
    wrong = None
    if str(settings.get("peft_type", "")).upper() != "LORA":
        wrong = str(settings.get("peft_type"))
    elif not is_lora({**settings, "use_dora": False}) or not keeps_base(settings):
        wrong = "init_lora_weights" if is_lora({**settings, "use_dora": False}) else "LoRA variant"
    for name in ("trainable_token_indices", "lora_bias", "ensure_weight_tying"):
        wrong = name if settings.get(name) else wrong
    if settings.get("bias", "none") != "none":
        wrong = f"bias={settings['bias']}"
    if settings.get("use_dora") and settings.get("fan_in_fan_out"):
        wrong = "DoRA, fan_in_fan_out"
    if wrong:
        raise UserError("kinds.cannot_merge", value=wrong[:60])


class _Changes:
    """The tensors of an adapter by the module of the base they belong to."""

    def __init__(self, settings: dict[str, Any], path: Path) -> None:
        self.settings = settings
        self.low_rank: dict[str, dict[str, Tensor]] = {}
        self.saved: dict[str, Tensor] = {}
        kept = tuple(settings.get("modules_to_save") or ())
        for tensor in fingerprint.tensors(path):
            name = tensor.name.removeprefix(_PREFIX)
            ending = next((ending for ending in _PAIRS if name.endswith(ending)), None)
            module = name.rsplit(".", 1)[0]
            if ending:
                self.low_rank.setdefault(name.removesuffix(ending), {})[_PAIRS[ending]] = tensor
            elif any(module == word or module.endswith(f".{word}") for word in kept):
                self.saved[name] = tensor
            else:
                raise UserError("kinds.adapter_tensor", name=name[:120])

    def of(self, module: str) -> LowRank:
        """Return the change of one module's weight. Raises UserError where half of it is missing."""
        held = self.low_rank[module]
        embedding = "embedding_a" in held
        a, b = (held.get(f"embedding_{letter}" if embedding else letter) for letter in "ab")
        if a is None or b is None or (embedding and "magnitude" in held):
            raise UserError("kinds.adapter_tensor", name=module[:120])
        transposed = embedding or bool(self.settings.get("fan_in_fan_out"))
        return LowRank(a, b, self._scale(module, a.shape[0]), transposed, held.get("magnitude"))

    def _scale(self, module: str, rank: int) -> float:
        alphas, alpha = self.settings.get("alpha_pattern") or {}, self.settings.get("lora_alpha") or 8
        if alphas:
            from peft.utils.other import get_pattern_key

            alpha = alphas.get(get_pattern_key(list(alphas), module), alpha)
        return float(alpha) / (math.sqrt(rank) if self.settings.get("use_rslora") else rank)


def _merged(parts: list[WeightPart], changes: _Changes, embedding: str | None) -> WeightPlan:
    """Apply the changes to the parts. `embedding` is the name of the tensor that the head shares, if it does."""
    known = {part.name: part for part in parts}
    touched = {_target(f"{module}.weight", known) for module in changes.low_rank}
    touched |= {_target(name, known) for name in changes.saved}
    untied = embedding is not None and bool(touched & {HEAD, embedding})
    if untied and embedding is not None:
        known[HEAD] = replace(known[embedding], name=HEAD)
    for name, tensor in changes.saved.items():
        target = _known(name, known)
        _fits(target, tensor.shape)
        known[target.name] = replace(target, source=tensor)
    for module in changes.low_rank:
        target = _known(f"{module}.weight", known)
        change = changes.of(module)
        shape = (change.b.shape[0], change.a.shape[1])
        _fits(target, shape[::-1] if change.transposed else shape)
        known[target.name] = replace(target, change=change)
    return WeightPlan(list(known.values()), untied, len(touched))


def _target(name: str, known: dict[str, WeightPart]) -> str:
    """Return the name in the base's files: some leave out the first word of a module's name ("transformer.",
    "model.")."""
    return name if name in known or name.partition(".")[2] not in known else name.partition(".")[2]


def _known(name: str, known: dict[str, WeightPart]) -> WeightPart:
    target = _target(name, known)
    if target not in known:
        raise UserError("kinds.adapter_tensor", name=name[:120])
    return known[target]


def _fits(part: WeightPart, shape: tuple[int, ...]) -> None:
    if part.shape != tuple(shape):
        raise UserError("kinds.shape", name=part.name[:120], found=list(shape), wanted=list(part.shape))


def _tied(base: Path, parts: list[WeightPart]) -> str | None:
    """Return the name of the embedding that the head shares; None where it shares none."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    if not config.get_text_config().tie_word_embeddings:
        return None
    return next((part.name for part in parts if part.name.endswith(_EMBEDDINGS)), None)
