"""The result of a run: `model/`, an adapter or a whole model with all files needed to load it elsewhere. No pickles."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.files import new_folder, write_json
from finetune.kernels.optimizer import MasterAdamW
from finetune.kernels.sharding import whole
from finetune.runs.run import Run

Weights = dict[str, Tensor]


@torch.no_grad()
def learned_weights(model: Any, masters: MasterAdamW, stored: torch.dtype, keep: bool = True) -> Weights:
    """Return the learned weights, unrounded: an adapter in float32, a whole model in the dtype of its base's files.

    Sharded weights are gathered, so every process must call it; only one needs to `keep` them. Names that share a
    weight share a tensor.
    """
    adapter = _is_adapter(model)
    exact = {id(parameter): master.detach() for parameter, master in masters.pairs}
    found: dict[int, Tensor] = {}
    weights: Weights = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if adapter and id(value) not in exact:
            continue
        if id(value) not in found:
            master = exact.get(id(value))
            unrounded = value.detach() if master is None else master.to(torch.float32 if adapter else stored)
            found[id(value)] = whole(unrounded, keep)
        weights[name] = found[id(value)]
    return weights


def write_weights(model: Any, weights: Weights, folder: Path, stored: torch.dtype) -> None:
    """Write weights and config as safetensors and JSON, as PEFT or transformers reads them."""
    if _is_adapter(model):
        model.save_pretrained(folder, state_dict=weights, safe_serialization=True, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)
    else:
        model.config.dtype, before = stored, model.config.dtype
        model.save_pretrained(folder, state_dict=weights)
        model.config.dtype = before


def save_result(run: Run, model: Any, weights: Weights, tokenizer: Any, stored: torch.dtype) -> None:
    """Write `model/`, completely or not at all."""
    with new_folder(run.model) as folder:
        write_weights(model, weights, folder, stored)
        write_beside(run, tokenizer, model.generation_config, folder)


def write_beside(run: Run, tokenizer: Any, generation: Any, folder: Path) -> None:
    """Write the other files that loading needs, and the origin of the weights."""
    tokenizer.save_pretrained(folder)
    if generation is not None:
        generation.save_pretrained(folder)
    recorded = run.environment()
    write_json(
        folder / "tunescope.json",
        {
            "run": run.id,
            "base": public_name(recorded["base"]),
            "base_fingerprint": recorded["fingerprint"],
            "asked": public_name(recorded["asked"]),
        },
    )


def public_name(base: str) -> str:
    """Return the name of a base for others: of a local folder only its last part."""
    return Path(base).name if base.startswith(("/", ".", "~")) else base


def _is_adapter(model: Any) -> bool:
    from peft import PeftModel

    return isinstance(model, PeftModel)
