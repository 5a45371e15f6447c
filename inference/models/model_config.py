"""What a model folder says about itself: whether it can run here, its context length, its fingerprint."""

from pathlib import Path
from typing import Any

from core import settings
from core.errors import UserError
from core.files import read_json
from inference.models.fingerprint import fingerprint
from inference.models.load_errors import in_words
from inference.models.types import Fetched

_SHORTEST_CONTEXT = 2048


def describe(
    folder: Path, *, requested: str, name: str, revision: str | None = None, stand_in: bool = False
) -> Fetched:
    """Return the facts of a model whose files are all here. Raises UserError if they are damaged."""
    config = read_config(folder, requested)
    with in_words("models.bad_config", value=requested, file="config.json"):
        length = context_length(config)
    return Fetched(
        folder=folder,
        requested=requested,
        name=name,
        revision=revision,
        stand_in=stand_in,
        fingerprint=fingerprint(folder),
        context_length=length,
    )


def read_config(folder: Path, value: str) -> Any:
    """Return the model's configuration as transformers reads it. Raises UserError for a type it does not know."""
    import transformers

    facts = _facts(folder, value)
    model_type = str(facts.get("model_type") or "?")
    if model_type not in transformers.CONFIG_MAPPING:
        if "auto_map" in facts:
            raise UserError("models.remote_code", value=value, model_type=model_type)
        raise UserError("models.unknown_type", value=value, model_type=model_type, version=transformers.__version__)
    with in_words("models.bad_config", value=value, file="config.json"):
        return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def check_config(folder: Path, value: str) -> None:
    """Raise UserError unless the folder's config.json is that of a causal language model that transformers has code
    for.

    One that leads to other files is refused: attention code from a repository, weights under another name.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = read_config(folder, value)
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    named = getattr(config, "architectures", None)
    written = str(named[0]) if isinstance(named, list) and named else ""
    fits = known is not None and not getattr(config, "is_encoder_decoder", False)
    if fits and written and not written.endswith("ForConditionalGeneration"):
        fits = written == known or (isinstance(known, tuple) and written in known)
    if not fits:
        raise UserError(
            "models.not_causal", value=value, architecture=written or config.model_type, default=settings.DEFAULT_MODEL
        )


def context_length(config: Any) -> int:
    """Return how many tokens fit, by the configuration: tokenizers are often wrong about it.

    Models without a fixed length (state spaces, ALiBi) get 2048.
    """
    text = config.get_text_config()
    for key in ("max_position_embeddings", "max_seq_len", "seq_length", "n_positions"):
        value = getattr(text, key, None)
        if isinstance(value, int) and value > 0:
            return value
    return _SHORTEST_CONTEXT


def _foreign_kernel(facts: object) -> str | None:
    """Return the Hub repository that a config names for its attention or experts, None if there is none: transformers
    would download its code and run it if the package `kernels` is installed."""
    if isinstance(facts, list):
        return next(filter(None, map(_foreign_kernel, facts)), None)
    if not isinstance(facts, dict):
        return None
    for key, value in facts.items():
        named = [value] if isinstance(value, str) else list(value.values()) if isinstance(value, dict) else []
        foreign = [name for name in named if isinstance(name, str) and "/" in name]
        if "implementation" in str(key) and foreign:
            return foreign[0]
    return next(filter(None, map(_foreign_kernel, facts.values())), None)


def _facts(folder: Path, value: str) -> dict:
    """Return the content of config.json. Raises UserError if it cannot be read, or leads to other files."""
    with in_words("models.bad_config", value=value, file="config.json"):
        facts = read_json(folder / "config.json")
        kernel = _foreign_kernel(facts)
    if kernel:
        raise UserError("models.kernel", value=value, kernel=kernel)
    elsewhere = facts.get("transformers_weights")
    if elsewhere is not None:
        raise UserError("models.weights_elsewhere", value=value, file=str(elsewhere)[:80])
    return facts
