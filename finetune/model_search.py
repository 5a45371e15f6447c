"""The Hub's models by a text: what each is, and whether it can be used here, before anything of it is downloaded.

`GET /api/models` is asked once a search, for what the Hub has read out of each repository: weights counted from the
safetensors headers, the architecture of config.json, the model card's licence and languages, the gate.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core import settings
from core.errors import UserError
from core.workspace import Owner
from finetune.publish import calls
from finetune.publish.refusals import connection_lost, no_answer_of_the_hub
from finetune.suggested import Model
from inference import hub

MOST = 30
_LONGEST = 100
_EXPAND = ["safetensors", "cardData", "config", "gated", "downloads", "tags"]


def search(text: str, owner: Owner) -> list[Model]:
    """The most downloaded models for writing text whose names hold `text`, at most `MOST`; of an empty text those of
    the whole Hub. Raises UserError: too long a text, offline, no answer, a refusal."""
    from huggingface_hub import HfApi

    wanted = text.strip()
    if len(wanted) > _LONGEST:
        raise UserError("picker.long_text", value=wanted[:40], most=_LONGEST)
    if settings.hub_offline():
        raise UserError("picker.offline")
    if not hub.reachable():
        raise UserError("picker.unreachable", endpoint=hub.endpoint())
    calls.limit_time()
    token = owner.token or False
    with _in_words():
        found = HfApi(endpoint=hub.endpoint(), token=token).list_models(
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
    """A refusal, a lost connection or an answer that is none of the Hub's as a sentence."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as error:
        raise _refusal(error.response) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if connection_lost(error) and not no_answer_of_the_hub(error):
            hub.unreachable_now()
            raise UserError("picker.unreachable", endpoint=hub.endpoint()) from error
        raise UserError("picker.strange", endpoint=hub.endpoint()) from error
    except Exception as error:
        if not connection_lost(error):
            raise
        hub.unreachable_now()
        raise UserError("picker.unreachable", endpoint=hub.endpoint()) from error


def _refusal(response: Any) -> UserError:
    status = response.status_code
    if status == 401:
        return UserError("publish.wrong_token", endpoint=hub.endpoint())
    if status == 429:
        return UserError("picker.slow_down", seconds=round(calls.asked(response) or 60))
    return UserError("picker.hub_error", endpoint=hub.endpoint(), status=status)


def _model(info: Any) -> Model:
    """What the Hub told of a repository; what it did not tell stays unknown."""
    config = info.config if isinstance(info.config, dict) else {}
    tags, card = info.tags or [], info.card_data
    context = config.get("max_position_embeddings")
    return Model(
        name=info.id,
        task="chat" if "conversational" in tags else "text",
        parameters=info.safetensors.total if info.safetensors else None,
        licence=_licence(card),
        context=context if isinstance(context, int) else None,
        languages=_texts(getattr(card, "language", None)),
        gated=bool(info.gated),
        downloads=info.downloads,
        obstacle=_obstacle(config, tags, bool(info.safetensors) or "safetensors" in tags),
    )


def _licence(card: Any) -> str | None:
    """The licence's key; of "other" the name that the card gives it."""
    key = next(iter(_texts(getattr(card, "license", None))), None)
    named = getattr(card, "license_name", None) if key == "other" else None
    return str(named)[:60] if named else key


def _texts(value: Any) -> tuple[str, ...]:
    """What a card says once or as a list."""
    values = value if isinstance(value, list) else [value]
    return tuple(one[:60] for one in values if isinstance(one, str) and one)


def _obstacle(config: dict[str, Any], tags: list[str], safetensors: bool) -> str | None:
    """The key of the sentence why a model cannot be used here; None where nothing speaks against it."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    if "peft" in config or "peft" in tags or "adapter-transformers" in tags:
        return "picker.is_adapter"
    if not isinstance(kind, str):
        return "picker.no_config"
    if kind not in CONFIG_MAPPING_NAMES:
        return "picker.own_code" if "auto_map" in config or "custom_code" in tags else "picker.unknown_type"
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "picker.not_causal"
    if "quantization_config" in config:
        return "picker.quantised"
    return None if safetensors else "picker.no_safetensors"
