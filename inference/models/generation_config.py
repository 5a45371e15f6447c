"""A checkpoint's own generation settings as a column: what `generate` does by default with this model.

They never influence another column; this one is added on request.
"""

import json
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.references import parse, resolve
from core.workspace import Owner
from inference.strategies.knobs import Knob
from inference.strategies.syntax import join_line
from inference.strategies.table import STRATEGIES, parse_column

FILE = "generation_config.json"
_TOP_K = 50
"""The top_k of `generate` (transformers 5.23) if a checkpoint samples and does not set it."""
_UNSUPPORTED = (
    "bad_words_ids", "begin_suppress_tokens", "encoder_no_repeat_ngram_size", "encoder_repetition_penalty",
    "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id", "guidance_scale", "min_length",
    "min_new_tokens", "sequence_bias", "suppress_tokens", "watermarking_config",
)  # fmt: skip
"""Settings that change the text of `generate` and that no column supports."""
_NEUTRAL = {"encoder_repetition_penalty": 1.0, "guidance_scale": 1.0}


def settings_line(generation_config: dict[str, Any]) -> str:
    """Return the column's line for a checkpoint's `generation_config`, by the rules of `generate` in transformers 5.23
    (`GenerationConfig.get_generation_mode`). Raises UserError for a value that a column refuses."""
    given = {name: value for name, value in generation_config.items() if value is not None}
    strategy, knobs = _strategy(given)
    takes = STRATEGIES[strategy]
    pairs = []
    for knob in (*takes.knobs, *takes.more):
        value = knobs.get(knob.name, given.get(knob.generate_name or knob.name))
        if value is None or (knob.name not in knobs and value == knob.neutral):
            continue
        pairs.append((knob.name, str(value).lower() if isinstance(value, bool) else value))
    line = join_line(strategy, pairs)
    parse_column(line)
    return line


def unsupported_settings(generation_config: dict[str, Any]) -> list[str]:
    """Return the names of set values that change what `generate` generates and that no column supports."""
    return [
        name for name in _UNSUPPORTED if generation_config.get(name, _NEUTRAL.get(name)) not in _neutral_values(name)
    ]


def _neutral_values(name: str) -> tuple[Any, ...]:
    return (None, 0, [], {}, _NEUTRAL.get(name))


def _strategy(given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the strategy, and those of its settings that have other names or other defaults."""
    beams = _count(given, "num_beams", 1)
    if beams > 1:
        return _beams(given, beams)
    if given.get("do_sample"):
        return _draw(given)
    if given.get("penalty_alpha") and _count(given, "top_k", _TOP_K) > 1:
        return "contrastive", {"top_k": given.get("top_k", _TOP_K)}
    if given.get("dola_layers"):
        layers = given["dola_layers"]
        return "dola", {"layers": layers} if layers in ("high", "low") else {}
    return "greedy", {}


def _count(given: dict[str, Any], name: str, default: int) -> int:
    """Return an integer from a file that anybody may have written."""
    value = given.get(name, default)
    return value if isinstance(value, int) else default


def _beams(given: dict[str, Any], beams: int) -> tuple[str, dict[str, Any]]:
    groups = _count(given, "num_beam_groups", 1)
    if groups > 1:
        penalty = given.get("diversity_penalty", 0.0)
        return "diverse_beam", {"num_beams": beams, "num_groups": groups, "diversity_penalty": penalty}
    drawn = {"top_k": given.get("top_k", _TOP_K)} if given.get("do_sample") else {}
    return "beam_sample" if drawn else "beam", {"num_beams": beams, **drawn}


def _draw(given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the sampling strategy, named after the first of its truncations, and its settings; `generate` applies all
    of them."""
    drawn_by = _drawn_by()
    found = {knob: given.get(knob.generate_name) for knob in drawn_by}
    cuts = {knob.name: value for knob, value in found.items() if value is not None and value != knob.neutral}
    if given.get("top_k", _TOP_K) != 0:
        cuts["top_k"] = given.get("top_k", _TOP_K)
    named = next((knob for knob in drawn_by if knob.name in cuts), None)
    return ("sample", {}) if named is None else (drawn_by[named], cuts)


def _drawn_by() -> dict[Knob, str]:
    """Return the truncations that `generate` has, each with the strategy whose first setting it is. top_k comes last:
    if a checkpoint samples, it is always set."""
    first = [(strategy.knobs[0], strategy.key) for strategy in STRATEGIES.values() if strategy.kind == "sample"]
    known = [(knob, key) for knob, key in first if knob.generate_name and knob.name != "temperature"]
    return dict(sorted(known, key=lambda pair: pair[0].name == "top_k"))


def generation_config(reference: str, owner: Owner) -> dict[str, Any]:
    """Return the generation settings of the referenced model, for an adapter those of its base.

    Its weights are not downloaded. Raises UserError if the model is not available or has no such settings.
    """
    path = _folder(reference, owner) / FILE
    if not path.is_file():
        raise UserError("board.authors_none", value=reference, file=FILE)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError("board.authors_broken", value=reference, file=FILE)
    return found


def _folder(reference: str, owner: Owner) -> Path:
    from inference.models.locate import locate, locate_tokenizer

    if resolve(parse(reference, owner), owner).adapter is not None:
        return locate(reference, owner).base.folder
    folder = locate_tokenizer(reference, owner)
    return locate(reference, owner).base.folder if (folder / "adapter_config.json").is_file() else folder
