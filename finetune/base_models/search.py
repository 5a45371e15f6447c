"""Searches the Hub's models: what each is, and whether it can be used here, before anything is downloaded.

A search is one request, `GET /api/models`, for what the Hub has read from each repository: weights counted from the
safetensors headers, the architecture of config.json, the model card's license and languages, the gate.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from core import settings
from core.errors import UserError
from core.hub import reach, retries
from core.hub.errors import classify, key_of
from core.workspace import Owner
from finetune.base_models.network import network_of
from finetune.base_models.suggested import Model, Sizes

MOST = 30
_LONGEST = 100
_LARGEST_CONFIG = 1_000_000
_LIKE = 0.02
"""How far the number of weights computed from sizes may be off: it leaves out biases and some norms."""
_BEHIND_THE_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling")
_EXPAND = ["safetensors", "cardData", "config", "gated", "downloads", "tags"]
_SENTENCES = {
    "wrong_token": "publish.wrong_token",
    "busy": "picker.slow_down",
    "answered": "picker.hub_error",
    "lost": "picker.unreachable",
    "io": "picker.unreachable",
}
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""What reading an answer may raise that does not come from the Hub."""


def search(text: str, owner: Owner) -> list[Model]:
    """Return the most downloaded text-generation models whose names contain `text`, at most `MOST`; those of the whole
    Hub for an empty text. Raises UserError where the text is too long, in offline mode, and where the Hub does not
    answer or refuses."""
    from huggingface_hub import HfApi

    wanted = text.strip()
    if len(wanted) > _LONGEST:
        raise UserError("picker.long_text", value=wanted[:40], most=_LONGEST)
    if settings.hub_offline():
        raise UserError("picker.offline")
    if not reach.reachable():
        raise UserError("picker.unreachable", endpoint=reach.endpoint())
    retries.limit_time()
    token = owner.token or False
    with _in_words():
        found = HfApi(endpoint=reach.endpoint(), token=token).list_models(
            search=wanted or None,
            pipeline_tag="text-generation",
            sort="downloads",
            limit=MOST,
            expand=_EXPAND,  # type: ignore[arg-type]
            token=token,
        )
        return [_model(info) for info in found]


@contextmanager
def _in_words() -> Iterator[None]:
    """Raise UserError for a refusal, a lost connection or an answer that is not the Hub's."""
    try:
        yield
    except Exception as error:
        refusal = classify(error)
        key = key_of(refusal, _SENTENCES) if refusal is not None else None
        if key is None and not isinstance(error, _UNREADABLE):
            raise
        if key == _SENTENCES["lost"]:
            reach.mark_unreachable()
        facts = {"status": refusal.status, "seconds": refusal.wait} if refusal is not None else {}
        raise UserError(key or "picker.strange", endpoint=reach.endpoint(), **facts) from error


def _model(info: Any) -> Model:
    """Return the model that the Hub describes; fields that the Hub leaves out are None."""
    config = info.config if isinstance(info.config, dict) else {}
    tags, card = info.tags or [], info.card_data
    context = config.get("max_position_embeddings")
    return Model(
        name=info.id,
        task="chat" if "conversational" in tags else "text",
        parameters=info.safetensors.total if info.safetensors else None,
        licence=_license(card),
        context=context if isinstance(context, int) else None,
        languages=_texts(getattr(card, "language", None)),
        gated=bool(info.gated),
        downloads=info.downloads,
        obstacle=_obstacle(config, tags, bool(info.safetensors) or "safetensors" in tags),
    )


def _license(card: Any) -> str | None:
    """Return the license's key; for "other", the name that the card gives it."""
    key = next(iter(_texts(getattr(card, "license", None))), None)
    named = getattr(card, "license_name", None) if key == "other" else None
    return str(named)[:60] if named else key


def _texts(value: Any) -> tuple[str, ...]:
    """Return a card's value, one text or a list of texts, as a tuple."""
    values = value if isinstance(value, list) else [value]
    return tuple(text[:60] for text in values if isinstance(text, str) and text)


def _obstacle(config: dict[str, Any], tags: list[str], safetensors: bool) -> str | None:
    """Return the key of the sentence that says why a model cannot be used here; None where nothing is known to prevent
    it."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    if "peft" in config or "peft" in tags or "adapter-transformers" in tags:
        return "picker.is_adapter"
    if not isinstance(kind, str):
        return "picker.no_config"
    if kind not in CONFIG_MAPPING:
        return "picker.own_code" if "auto_map" in config or "custom_code" in tags else "picker.unknown_type"
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "picker.not_causal"
    if "quantization_config" in config:
        return "picker.quantised"
    return None if safetensors else "picker.no_safetensors"


def with_config_details(model: Model, owner: Owner) -> Model:
    """Return the model with context length and sizes from its config.json, which the Hub's list leaves out; unchanged
    where the caller cannot read the file (a gate, no Hub) or it does not describe a Llama-like model."""
    if settings.hub_offline() or not reach.reachable():
        return model
    try:
        with _in_words():
            config = _config(model.name, owner)
    except UserError:
        return model
    context = config.get("max_position_embeddings")
    if model.context is None and isinstance(context, int) and context > 0:
        model = replace(model, context=context)
    return replace(model, sizes=model.sizes or _sizes(config, model.parameters))


def _config(name: str, owner: Owner) -> dict[str, Any]:
    """Return config.json at the newest commit. It is not cached: a private file must stay with those who may read
    it."""
    from huggingface_hub import HfApi

    retries.limit_time()
    api, token = HfApi(endpoint=reach.endpoint(), token=owner.token or False), owner.token or False
    (about,) = api.get_paths_info(name, "config.json", token=token) or (None,)
    if about is None or getattr(about, "size", _LARGEST_CONFIG) >= _LARGEST_CONFIG:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = api.hf_hub_download(name, "config.json", local_dir=folder, token=token)
        found = json.loads(Path(path).read_bytes())
    return found if isinstance(found, dict) else {}


def _sizes(config: dict[str, Any], parameters: int | None) -> Sizes | None:
    """Return the sizes that a config.json names if they add up to the model's number of weights; None where they do
    not, since the fields then mean something else."""
    names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
    numbers: list[Any] = [config.get(name) for name in names]
    layers, width, inner, heads, vocabulary = numbers
    if not all(type(number) is int and 0 < number < 1_000_000 for number in numbers):
        return None
    keys, head_width = config.get("num_key_value_heads") or heads, config.get("head_dim") or width // heads
    if not all(type(number) is int and number > 0 for number in (keys, head_width)):
        return None
    plain = all(config.get(name) in (None, 1, 1.0) for name in _BEHIND_THE_HEAD)
    for tied in (True, False):
        sizes = Sizes(layers, width, inner, heads, keys, head_width, vocabulary, tied, plain)
        if parameters and abs(network_of(sizes).total / parameters - 1) < _LIKE:
            return sizes
    return None
