"""Adapters: their files, whether they fit a base, and what they can share with it or mix with it in one batch."""

import threading
from pathlib import Path
from typing import Any

from core import settings
from core.errors import UserError
from core.files import read_json
from core.references import Base, named_base
from core.words import say
from core.workspace import Owner
from inference.models import fingerprint, hub_files
from inference.models.load_errors import in_words
from inference.models.types import AdapterFiles, Fetched, Report, Source

_NOBODY = "nobody"
_PLAIN_STARTS = (True, False, "true", "false", "gaussian")
_NOT_PLAIN = (
    "use_dora",
    "target_parameters",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "velora_config",
    "monteclora_config",
    "kasa_config",
    "layer_replication",
)
_KINDS = (
    *("LORA", "ADALORA", "IA3", "LOHA", "LOKR", "OFT", "BOFT", "VERA", "HRA", "MISS", "HIRA", "RANDLORA"),
    *("FOURIERFT", "C3A", "ROAD", "DELORA", "SHIRA", "TRAINABLE_TOKENS", "LN_TUNING"),
)


def read_adapter(folder: Path, name: str, revision: str | None = None) -> AdapterFiles:
    """Return the adapter in a folder. Raises UserError if it is not an adapter, or its weights are a pickle."""
    adapter = read_adapter_config(folder, name, revision)
    if not (folder / hub_files.ADAPTER_WEIGHTS).is_file():
        hub_files.refuse_pickles([path.name for path in sorted(folder.iterdir())], name)
    return adapter


def read_adapter_config(folder: Path, name: str, revision: str | None = None) -> AdapterFiles:
    """Return an adapter by its config; its weights need not be here. Raises UserError.

    Types whose config leads to other files or modules (X-LoRA, Megatron) are refused.
    """
    if not (folder / "adapter_config.json").is_file():
        raise UserError("models.not_an_adapter", value=name)
    try:
        config = read_json(folder / "adapter_config.json")
        base = str(config.get("base_model_name_or_path") or "")
    except (ValueError, AttributeError) as error:
        raise UserError("models.bad_config", value=name, file="adapter_config.json", error=error) from error
    kind = "MEGATRON" if config.get("megatron_config") else str(config.get("peft_type", "")).upper()
    if kind not in _KINDS:
        raise UserError("models.adapter_kind", value=name, kind=kind or "?", known=", ".join(_KINDS))
    return AdapterFiles(folder, base, config, name, revision)


def download_adapter(
    listing: hub_files.Listing, token: str | bool, progress: Report | None, stop: threading.Event | None
) -> AdapterFiles:
    """Download an adapter from the Hub. Raises UserError; for one with pickled weights before anything is
    downloaded."""
    name = str(listing.repo)
    if "adapter_config.json" not in listing.sizes:
        raise UserError("models.not_an_adapter", value=name)
    if hub_files.ADAPTER_WEIGHTS not in listing.sizes and listing.online:
        hub_files.refuse_pickles(sorted(listing.sizes), name)
    wanted = [*hub_files.small_files(listing), hub_files.ADAPTER_WEIGHTS]
    folder = hub_files.download(listing, wanted, token, progress, stop)
    return read_adapter(folder, listing.repo.repo_id, listing.commit)


def base_of(adapter: AdapterFiles) -> Base:
    """Return the base that an adapter from the Hub names: a stranger's text, so never a folder or run of this
    machine."""
    return named_base(adapter.folder, Owner(_NOBODY), adapter.name)


def check_adapter_base(adapter_folder: Path, base: Fetched, name: str = "") -> None:
    """Raise UserError if the adapter was trained on another base than this one.

    It compares the fingerprint of the base's weights recorded beside the adapter (`tunescope.json`, or `env.json` of
    its run); without a record, the shapes of its weights with the modules of the base.
    """
    adapter = read_adapter(adapter_folder, name or str(adapter_folder))
    recorded = recorded_fingerprint(adapter_folder)
    if recorded:
        if recorded != base.fingerprint:
            reason = say("models.other_weights", recorded=recorded[:12], found=base.fingerprint[:12])
            raise _wrong(adapter, base, reason)
        return
    if base.stand_in != (Path(adapter.base_name).name == settings.STANDIN):
        raise _wrong(adapter, base, say("models.stand_in_differs"))
    with in_words("models.cannot_load", value=base.name):
        modules = _module_shapes(base.folder)
    misfit = _misfit(adapter_folder, modules)
    if misfit:
        raise _wrong(adapter, base, say("models.other_shape", module=misfit))


def _wrong(adapter: AdapterFiles, base: Fetched, reason: str) -> UserError:
    return UserError(
        "models.wrong_base", adapter=adapter.name, base=base.name, named=adapter.base_name or "-", reason=reason
    )


def recorded_fingerprint(adapter_folder: Path) -> str | None:
    """Return the fingerprint of the base that an adapter was trained on, if it was recorded."""
    return _record(adapter_folder, "base_fingerprint") or _record(adapter_folder, "fingerprint", "../env.json")


def _record(adapter_folder: Path, key: str, name: str = "tunescope.json") -> str | None:
    """Return a text from the record beside an adapter; None without one, or if it is not readable."""
    try:
        value = read_json(adapter_folder / name).get(key)
    except (OSError, ValueError, AttributeError):
        return None
    return value if isinstance(value, str) and value else None


def _misfit(adapter_folder: Path, modules: dict[str, tuple[int, int] | None]) -> str | None:
    """Return the first LoRA module that the base lacks or has in another shape (out, in)."""
    for tensor in fingerprint.tensors(adapter_folder / hub_files.ADAPTER_WEIGHTS):
        module, mark, _ = tensor.name.removeprefix("base_model.model.").partition(".lora_")
        if not mark:
            continue
        side = tensor.name.rsplit(".lora_", 1)[1][:1]
        module = module.replace(".base_layer", "")
        if module not in modules:
            return module
        shape = modules[module]
        if shape is None:
            continue
        if (side == "A" and tensor.shape[-1:] != shape[1:]) or (side == "B" and tensor.shape[:1] != shape[:1]):
            return f"{module} {list(tensor.shape)}"
    return None


def _module_shapes(folder: Path) -> dict[str, tuple[int, int] | None]:
    """Return (out, in) of each layer with a matrix, None for other modules (experts have bare parameters).

    The model is created without memory for its weights.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, Conv1D

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    shapes: dict[str, tuple[int, int] | None] = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        shapes[name] = None
        if weight is not None and weight.ndim == 2:
            rows, columns = weight.shape
            shapes[name] = (columns, rows) if isinstance(module, Conv1D) else (rows, columns)
    return shapes


def is_lora(config: dict[str, Any]) -> bool:
    """Return whether this is LoRA that only adds to whole layers, so that single rows of a batch can run without it."""
    return _is_lora(config) and not any(config.get(key) for key in _NOT_PLAIN)


def keeps_base(config: dict[str, Any]) -> bool:
    """Return whether the base's own weights stay unchanged under this adapter.

    PiSSA, OLoRA, CorDA, LoftQ and the like change them on loading (PEFT, `init_lora_weights`).
    """
    start = config.get("init_lora_weights", True)
    plain = (start.lower() if isinstance(start, str) else start) in _PLAIN_STARTS
    return _is_lora(config) and plain and not config.get("layer_replication")


def mixable(source: Source) -> bool:
    """Return whether one batch can compute rows with and without the adapter exactly: plain LoRA that changes nothing
    else.

    Then `model(..., adapter_names=["default", "__base__"])` is what each gives alone. PEFT ignores the argument for
    every method but LoRA, silently.
    """
    if source.adapter is None:
        return False
    config = source.adapter.config
    others = ("modules_to_save", "trainable_token_indices", "layer_replication", "alora_invocation_tokens", "lora_bias")
    touched = any(config.get(name) for name in others) or config.get("bias", "none") != "none"
    return is_lora(config) and keeps_base(config) and not touched


def _is_lora(config: dict[str, Any]) -> bool:
    return str(config.get("peft_type", "")).upper() == "LORA"
