"""Compare a downloaded GGUF with the model it was made from, its matrices rounded as in the file."""

from pathlib import Path
from typing import Any

from finetune.publish.formats import logit_check


def compared(folder: Path, load: dict[str, Any]) -> dict[str, Any]:
    """Return the largest difference of any logit over all GGUF files in `folder`, the tolerance, and whether the tokens
    are the same; `not_loaded` says why where the memory is too small."""
    from finetune.publish.formats import lora_delta
    from finetune.publish.formats.logit_check import LIMIT

    base = Path(load["base"])
    plan = lora_delta.plan(base, Path(load["adapter"]) if load["adapter"] else None)
    why = logit_check.skipped(plan, True, copies=2)
    if why is not None:
        return {"loads": False, "not_loaded": why}
    prompts, worst = logit_check.prompt_ids(Path(load["tokenizer"])), 0.0
    for path in sorted(folder.glob("*.gguf")):
        if not _same_tokens(path, prompts):
            return {"same_tokens": False}
        rounding = logit_check.rounded(path.stem.rpartition("-")[2])
        wanted = logit_check.logits(logit_check.in_memory(plan, base, rounding), prompts)
        found = logit_check.logits_of_gguf(path, logit_check.config_of(base, plan), prompts)
        worst = max(worst, logit_check.distance(wanted, found).max_difference)
    return {"logits_max_difference": worst, "same_tokens": True, "tolerance": LIMIT}


def _same_tokens(path: Path, prompts: list[list[int]]) -> bool:
    """Return whether the file's own vocabulary splits the prompts as the tokenizer does."""
    from inference.models.fallback_model import tokenizer_of

    tokenizer = tokenizer_of(path)
    return all(tokenizer(text)["input_ids"] == ids for text, ids in zip(logit_check.PROMPTS, prompts, strict=True))
