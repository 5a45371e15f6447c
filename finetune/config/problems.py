"""The problems of a config as sentences: each names the field, the value, what is allowed and the nearest name."""

import difflib
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from core.errors import UserError
from core.words import is_utf8, say

ONE_SOURCE = "config.one_source"
SOURCE_DETAIL = "config.source_detail"
SOURCE_MAPPING = "config.source_mapping"
DEVICE = "config.device"
ROW_EACH = "config.row_each"
SHARDED_ALONE = "config.sharded_alone"
BLOCK_NOT_CHOSEN = "config.block_not_chosen"
OBJECTIVE_BLOCK = "config.objective_block"
FREEZE_NOTHING = "config.freeze_nothing"
NOT_A_PATTERN = "config.not_a_pattern"
_SECRET = re.compile(r"\b(hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{20,}|ghp_[A-Za-z0-9]{20,})")


class ConfigProblem:
    """One problem of a config. Its sentence is made when it is shown, in the reader's language."""

    def __init__(self, code: str, facts: dict[str, object]) -> None:
        self.code = code
        self.facts = facts

    def __str__(self) -> str:
        return say(self.code, **self.facts)


class ConfigProblems(list[ConfigProblem]):
    """Several problems, shown one after another."""

    def __str__(self) -> str:
        return " ".join(str(problem) for problem in self)

    __format__ = object.__format__


def typed_problem(code: str, **facts: object) -> PydanticCustomError:
    """Return an error for a validator to raise; its sentence has the key `code`."""
    return PydanticCustomError(code, "{code}", {"code": code, **facts})  # type: ignore[arg-type]


def refuse_secrets(raw: Any) -> None:
    """Raise UserError where a value looks like an access token; the error names the field, never the value."""
    for path, value in _leaves(raw, ""):
        if _SECRET.search(value):
            raise UserError("config.secret", field=path)


def refuse_broken_texts(raw: Any) -> None:
    """Raise UserError where a text cannot be encoded as UTF-8: a run could not write it to a file."""
    for path, value in _leaves(raw, ""):
        if not is_utf8(value):
            raise UserError("config.encoding", field=path.encode("utf-8", "replace").decode())


def _leaves(raw: Any, path: str) -> Iterator[tuple[str, str]]:
    inner = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    for key, value in inner:
        name = _SECRET.sub("...", str(key))
        yield (path or name, str(key)) if not isinstance(key, int) else (path, "")
        yield from _leaves(value, f"{path}.{name}" if path else name)
    if isinstance(raw, str):
        yield path, raw


def refusal(error: ValidationError, model: type[BaseModel], code: str = "config.invalid") -> UserError:
    """Return one UserError for all problems that pydantic found; the sentence of `code` takes them as `problems`."""
    return UserError(code, problems=ConfigProblems(_problem(found, model) for found in error.errors()))


def _problem(found: Any, model: type[BaseModel]) -> ConfigProblem:
    kind, context = found["type"], found.get("ctx") or {}
    field = ".".join(str(part) for part in found["loc"])
    facts: dict[str, object] = {"field": field, "value": _shown(found.get("input"))}
    if kind.startswith("config."):
        return ConfigProblem(kind, {**facts, **context})
    if kind == "extra_forbidden":
        return _unknown(found["loc"], field, model)
    if kind == "missing":
        return ConfigProblem("config.missing", facts)
    if kind == "literal_error":
        return ConfigProblem(
            "config.choice", {**facts, "allowed": context["expected"].replace("'", "").replace(" or ", ", ")}
        )
    limits = _limits(found["loc"], model)
    if limits and kind.startswith(("int", "float", "greater", "less", "finite")):
        code = _NUMBERS.get(kind.split("_")[0], "config.range")
        above = code == "config.range" and limits.pop("above")
        return ConfigProblem("config.above" if above else code, {**facts, **limits})
    code = next((code for start, code in _KINDS.items() if kind.startswith(start)), "config.wrong")
    return ConfigProblem(code, {**facts, **context, "reason": found["msg"]})


_NUMBERS = {"int": "config.integer", "float": "config.number", "greater": "config.range"}
_KINDS = {
    "bool": "config.boolean",
    "string_type": "config.text",
    "list": "config.list",
    "model": "config.block",
    "dict": "config.block",
    "too_short": "config.too_short",
    "string_too_short": "config.too_short",
    "too_long": "config.too_long",
    "string_too_long": "config.too_long",
}


def _shown(value: Any) -> str:
    """Return a value shortened for a sentence; an integer with more digits than Python prints is in hexadecimal."""
    try:
        text = str(value)
    except ValueError:
        text = hex(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown(location: tuple[Any, ...], field: str, model: type[BaseModel]) -> ConfigProblem:
    block = _model_at(location[:-1], model)
    names = list(block.model_fields) if block else []
    near = difflib.get_close_matches(str(location[-1]), names, 1, 0.6)
    if near:
        return ConfigProblem("config.unknown_near", {"field": field, "near": near[0]})
    return ConfigProblem("config.unknown", {"field": field, "allowed": ", ".join(names)})


def _model_at(location: tuple[Any, ...], model: type[BaseModel]) -> type[BaseModel] | None:
    """Return the block of the config at a location such as ("stages", 0, "data")."""
    here: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int):
            continue
        field = here.model_fields.get(part) if here else None
        here = next(_models(field.annotation), None) if field else None
    return here


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _limits(location: tuple[Any, ...], model: type[BaseModel]) -> dict[str, Any]:
    block = _model_at(location[:-1], model)
    field = block.model_fields.get(str(location[-1])) if block else None
    rules = field.metadata if field else []
    low = next((getattr(rule, key) for rule in rules for key in ("ge", "gt") if hasattr(rule, key)), None)
    high = next((rule.le for rule in rules if hasattr(rule, "le")), None)
    above = any(hasattr(rule, "gt") for rule in rules)
    return {"minimum": low, "maximum": high, "above": above} if low is not None and high is not None else {}
