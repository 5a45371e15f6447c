"""The difference between two models, measured by their logits for the same prompts."""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.words import say
from finetune.publish.formats.lora_delta import HEAD, WeightPlan
from finetune.publish.formats.weights import Reader
from inference.models.hub_files import megabytes

if TYPE_CHECKING:
    import torch

PROMPTS = (
    "The quick brown fox jumps over the lazy dog. Two plus two makes",
    "How do I keep fresh basil from wilting in the kitchen?",
    "Write a short story about a lighthouse keeper who finds a letter.",
    "def fibonacci(n):\n    if n < 2:\n        return n\n",
    "请用一句话解释什么是机器学习。",
)
LIMIT = 1e-3
"""The largest difference of two logits at which two models count as the same, rounded in the same way."""


@dataclass(frozen=True)
class Distance:
    """`max_difference`: of any logit at any position, `mean_difference`: over all of them; `top1`: how often both have
    the same most likely token (0 to 1); `largest`: the largest logit of the first model, for scale; `positions`: how
    many."""

    max_difference: float
    mean_difference: float
    top1: float
    largest: float
    positions: int

    def to_json(self) -> dict[str, float | int]:
        return asdict(self)


def distance(wanted: "list[torch.Tensor]", got: "list[torch.Tensor]") -> Distance:
    """Return the distance between the logits [tokens, vocabulary] of two models, one tensor per prompt.

    Where one vocabulary was padded, the columns that both have are compared. NaN counts as an infinite difference.
    """
    import torch

    worst, total, largest, same, positions, numbers = 0.0, 0.0, 0.0, 0, 0, 0
    for first, second in zip(wanted, got, strict=True):
        width = min(first.shape[1], second.shape[1])
        first, second = first[:, :width], second[:, :width]
        difference = (first - second).abs().nan_to_num(nan=math.inf, posinf=math.inf)
        worst, largest = max(worst, difference.max().item()), max(largest, first.abs().max().item())
        total += difference.sum(dtype=torch.float64).item()
        same += int((first.argmax(dim=1) == second.argmax(dim=1)).sum())
        positions, numbers = positions + len(first), numbers + first.numel()
    return Distance(worst, total / numbers, same / positions, largest, positions)


def prompt_ids(tokenizer_folder: Path) -> list[list[int]]:
    """Return the token ids of the prompts."""
    from inference.models.loading import load_tokenizer

    tokenizer = load_tokenizer(tokenizer_folder)
    return [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]


def _quiet() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()


def logits(model: Any, prompts: Iterable[list[int]]) -> "list[torch.Tensor]":
    """Return logits [tokens, vocabulary] in float32, a tensor per prompt."""
    import torch

    with torch.inference_mode():
        return [model(torch.tensor([ids])).logits[0].float() for ids in prompts]


def logits_of_folder(folder: Path, prompts: list[list[int]], adapter: Path | None = None) -> "list[torch.Tensor]":
    """Return logits of a model folder, with an adapter through PEFT if given, computed in float32 on the CPU."""
    import torch
    from transformers import AutoModelForCausalLM

    _quiet()
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False
    )
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter))
    return logits(model.eval(), prompts)


def merged_against_adapter(base: Path, adapter: Path | None, merged: Path) -> Distance:
    """Compare a merged model in its folder with base model and adapter in PEFT, both computed in float32.

    With a base model stored in half precision the merged weights are rounded to it, which the distance shows.
    """
    prompts = prompt_ids(merged)
    return distance(logits_of_folder(base, prompts, adapter), logits_of_folder(merged, prompts))


def config_of(folder: Path, plan: WeightPlan) -> Any:
    """Return the model's configuration; the plan says whether its head is untied from the embeddings."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    config.tie_word_embeddings = config.tie_word_embeddings and not plan.untied
    return config


def logits_of_gguf(path: Path, config: Any, prompts: list[list[int]]) -> "list[torch.Tensor]":
    """Return logits of a GGUF, as transformers reads it back and computes it in float32.

    The configuration is the model's own: transformers assumes 128 for the head width of Qwen3 where a GGUF says
    otherwise.
    """
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    _quiet()
    model: Any = AutoModelForCausalLM.from_pretrained(
        path.parent,
        config=copy.deepcopy(config),
        gguf_file=path.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        local_files_only=True,
    )
    return logits(model.eval(), prompts)


def in_memory(
    plan: WeightPlan, config_folder: Path, change: "Callable[[torch.Tensor], torch.Tensor] | None" = None
) -> Any:
    """Return the model of a plan, in float32, without writing it; `change` is applied to every matrix."""
    import torch
    from transformers import AutoModelForCausalLM

    config = config_of(config_folder, plan)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    own = model.state_dict(keep_vars=True)
    unset = {name for name in own if name != HEAD or not config.tie_word_embeddings}
    with torch.no_grad(), Reader() as reader:
        for part in plan.parts:
            if part.name not in own:
                continue
            unset.discard(part.name)
            value = torch.cat(list(reader.blocks(part, 2**26))).float()
            own[part.name].copy_(change(value) if change is not None and value.ndim > 1 else value)
    assert not unset, f"no weights for {sorted(unset)[:3]}"
    return model.eval()


def skipped(plan: WeightPlan, wanted: bool, copies: int) -> str | None:
    """Return why nothing is loaded back, as a sentence: it was not requested, or that many copies of the model in
    float32 do not fit into the free memory. None where it can be."""
    import psutil

    needed = int(sum(part.numbers for part in plan.parts) * 4 * (copies + 0.5))
    free = psutil.virtual_memory().available
    if not wanted:
        return say("kinds.not_asked")
    return None if needed < free else say("kinds.too_large", needed=megabytes(needed), free=megabytes(free))


def rounded(kind: str) -> "Callable[[torch.Tensor], torch.Tensor]":
    """Return a function that rounds a matrix as a GGUF type does, and gives it back in float32."""

    def half(weight: "torch.Tensor") -> "torch.Tensor":
        return weight.half().float()

    def eight_bits(weight: "torch.Tensor") -> "torch.Tensor":
        import gguf
        import torch

        if weight.shape[-1] % 32:
            return half(weight)
        kind = gguf.GGMLQuantizationType.Q8_0
        return torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(weight.numpy(), kind), kind))

    return {"F16": half, "Q8_0": eight_bits}[kind]
