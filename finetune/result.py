"""What a run gives: `model/`, an adapter or a whole model with all that loading it elsewhere needs. No pickles."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from core.files import new_folder, write_json
from finetune.masters import MasterAdamW
from finetune.run import Run


def save_weights(model: Any, masters: MasterAdamW, folder: Path, stored: torch.dtype) -> None:
    """Write what was learned, unrounded: an adapter in float32, a whole model in the dtype its base is stored in."""
    adapter = _is_adapter(model)
    with masters.exact(torch.float32 if adapter else stored):
        if adapter:
            model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
            (folder / "README.md").unlink(missing_ok=True)
        else:
            model.config.dtype, before = stored, model.config.dtype
            model.save_pretrained(folder)
            model.config.dtype = before


def load_weights(model: Any, folder: Path) -> None:
    """Read back what `save_weights` wrote, into the model as it stands."""
    from peft import set_peft_model_state_dict

    for path in sorted(folder.glob("*.safetensors")):
        weights = load_file(path)
        if _is_adapter(model):
            set_peft_model_state_dict(model, weights)
        else:
            unexpected = nn.Module.load_state_dict(model, weights, strict=False).unexpected_keys
            assert not unexpected, f"a checkpoint of another model: {unexpected[:3]}"


def save_result(run: Run, model: Any, masters: MasterAdamW, tokenizer: Any, stored: torch.dtype) -> None:
    """Write `model/` whole or not at all."""
    with new_folder(run.model) as folder:
        save_weights(model, masters, folder, stored)
        tokenizer.save_pretrained(folder)
        if model.generation_config is not None:
            model.generation_config.save_pretrained(folder)
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
    """A base as others may read it: of a folder of this machine only its name."""
    return Path(base).name if base.startswith(("/", ".", "~")) else base


def _is_adapter(model: Any) -> bool:
    from peft import PeftModel

    return isinstance(model, PeftModel)
