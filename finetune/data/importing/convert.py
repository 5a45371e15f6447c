"""Converts one raw row to a row of `core.rows`, or to the rule that it breaks.

The text of turns is not changed: nothing is stripped or corrected.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from core.rows import ChatRow, Message, PairRow, PreferenceRow, Role, Row, TextRow
from finetune.config.mapping import Mapping

ROLE_OF: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "ai": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
    "function_response": "tool",
}
"""The role of each name that files use for it, in lower case."""

ROLE_KEYS = ("role", "from", "speaker", "author")
TEXT_KEYS = ("content", "value", "text")
_CALLS = ("tool_calls", "function_call")
_UNUSED = ("reasoning_content", "reasoning", "thinking", "refusal", "images", "audio")
_FOLLOWS = {"": {"system", "user"}, "system": {"user"}, "user": {"assistant"}, "assistant": {"user", "tool"}}
_FOLLOWS["tool"] = {"tool", "assistant"}
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"


@dataclass(frozen=True)
class Converted:
    """The row, or the rule that it breaks; a row is kept despite `warnings`."""

    row: Row | None
    rule: str | None = None
    warnings: set[str] = field(default_factory=set)


class _Broken(Exception):
    """Carries the rule that a row breaks to `convert`."""


def convert(raw: dict[str, Any] | None, mapping: Mapping) -> Converted:
    """Convert one row as the mapping says; never raises because of a row's content."""
    if raw is None:
        return Converted(None, "unreadable")
    warnings: set[str] = set()
    try:
        return Converted(_BUILDERS[mapping.kind](raw, mapping, warnings), None, warnings)
    except _Broken as broken:
        return Converted(None, str(broken))
    except ValidationError:
        return Converted(None, "wrong_type")


def canonical(row: Row) -> str:
    """Return a row as canonical JSON: sorted keys, no spaces, without missing parts."""
    content = row.model_dump(exclude_none=True)
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def is_blank(text: str) -> bool:
    """Return whether a text shows nothing: white space and invisible characters only."""
    return not text.strip().strip(_INVISIBLE).strip()


def turn_keys(value: Any) -> tuple[str, str] | None:
    """Return the keys for role and text, such as ("from", "value"), where `value` is a list of turns; else None."""
    turns = _from_json(value)
    first = next((turn for turn in turns if isinstance(turn, dict)), None) if isinstance(turns, list) else None
    if first is None:
        return None
    role = next((key for key in ROLE_KEYS if key in first), None)
    text = next((key for key in TEXT_KEYS if key in first), None)
    return (role, text) if role and text else None


def _from_json(value: Any) -> Any:
    """Return the value of a table cell that holds JSON; any other value unchanged."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _chat(raw: dict[str, Any], mapping: Mapping, warnings: set[str]) -> ChatRow:
    messages = _prompt(raw, mapping, warnings)
    if mapping.answer:
        messages += _answer(raw.get(mapping.answer), warnings)
    _check_roles(messages)
    _check_texts(messages)
    if messages[-1].role != "assistant":
        warnings.add("unanswered")
    return ChatRow(messages=messages, tools=_tools(raw, mapping))


def _preference(raw: dict[str, Any], mapping: Mapping, warnings: set[str]) -> PreferenceRow:
    prompt = _prompt(raw, mapping, warnings)
    chosen = _answer(raw.get(mapping.chosen or ""), warnings)
    rejected = _answer(raw.get(mapping.rejected or ""), warnings)
    if chosen and chosen[0].role != "assistant":
        shared = _shared(chosen, rejected)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    for answer in (chosen, rejected):
        _check_roles(prompt + answer)
        _check_texts(prompt + answer)
        if not answer or answer[0].role != "assistant":
            raise _Broken("wrong_roles")
    if chosen == rejected:
        raise _Broken("same_answers")
    return PreferenceRow(prompt=prompt, chosen=chosen, rejected=rejected)


def _shared(chosen: list[Message], rejected: list[Message]) -> int:
    """Return how many turns two whole conversations share at their beginning, up to a turn that is not an answer."""
    count = 0
    while count < min(len(chosen), len(rejected)) and chosen[count] == rejected[count]:
        count += 1
    while count and chosen[count - 1].role == "assistant":
        count -= 1
    return count


def _pair(raw: dict[str, Any], mapping: Mapping, warnings: set[str]) -> PairRow:
    source, target = _question(raw, mapping), _text(raw.get(mapping.answer or ""))
    if is_blank(source):
        raise _Broken("empty_prompt")
    if is_blank(target):
        raise _Broken("empty_answer")
    return PairRow(source=source, target=target)


def _plain(raw: dict[str, Any], mapping: Mapping, warnings: set[str]) -> TextRow:
    text = _text(raw.get(mapping.text or ""))
    if is_blank(text):
        raise _Broken("empty_text")
    return TextRow(text=text)


_BUILDERS: dict[str, Callable[[dict[str, Any], Mapping, set[str]], Row]] = {
    "chat": _chat,
    "preference": _preference,
    "pair": _pair,
    "text": _plain,
}


def _prompt(raw: dict[str, Any], mapping: Mapping, warnings: set[str]) -> list[Message]:
    """Return the turns before the answer; for whole conversations, all turns."""
    system = _text(raw.get(mapping.system)) if mapping.system else ""
    messages = [] if is_blank(system) else [Message(role="system", content=system)]
    if mapping.messages:
        turns = _turns(raw.get(mapping.messages), warnings)
    elif mapping.prompt and turn_keys(raw.get(mapping.prompt)):
        turns = _turns(raw[mapping.prompt], warnings)
    elif mapping.prompt:
        turns = [*_history(raw, mapping), Message(role="user", content=_question(raw, mapping))]
    else:
        turns = []
    own_system = bool(turns) and turns[0].role == "system"
    return turns if own_system else messages + turns


def _question(raw: dict[str, Any], mapping: Mapping) -> str:
    """Return the instruction and, on a line below it, its input."""
    parts = [_text(raw.get(column)) for column in (mapping.prompt, mapping.input) if column]
    return "\n".join(part for part in parts if not is_blank(part))


def _history(raw: dict[str, Any], mapping: Mapping) -> list[Message]:
    """Return the earlier turns, given as a list of [question, answer]."""
    history = _from_json(raw.get(mapping.history)) if mapping.history else None
    if history in (None, ""):
        return []
    if not isinstance(history, list) or any(not isinstance(pair, list) or len(pair) != 2 for pair in history):
        raise _Broken("wrong_type")
    roles: tuple[Role, Role] = ("user", "assistant")
    return [Message(role=role, content=_text(text)) for pair in history for role, text in zip(roles, pair, strict=True)]


def _answer(value: Any, warnings: set[str]) -> list[Message]:
    """Return an answer given as text, as one turn or as several."""
    if isinstance(value, dict):
        return _turns([value], warnings)
    if turn_keys(value):
        return _turns(value, warnings)
    return [Message(role="assistant", content=_text(value))]


def _turns(value: Any, warnings: set[str]) -> list[Message]:
    turns = _from_json(value)
    if turns in (None, "", []):
        raise _Broken("empty_prompt")
    if not isinstance(turns, list) or any(not isinstance(turn, dict) for turn in turns):
        raise _Broken("wrong_type")
    return [_turn(turn, warnings) for turn in turns]


def _turn(turn: dict[str, Any], warnings: set[str]) -> Message:
    name = next((turn[key] for key in ROLE_KEYS if key in turn), None)
    if any(turn.get(key) for key in _CALLS) or name == "function_call":
        raise _Broken("tool_calls")
    role = ROLE_OF.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        raise _Broken("wrong_roles")
    if any(turn.get(key) for key in _UNUSED) or turn.get("weight") == 0:
        warnings.add("unused_fields")
    return Message(role=role, content=_text(next((turn[key] for key in TEXT_KEYS if key in turn), None)))


def _text(value: Any) -> str:
    """Return a text, or the joined text parts of a list of parts; None counts as empty. Anything else breaks
    `wrong_type`."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(_is_text_part(part) for part in value):
        return "".join(part["text"] for part in value)
    raise _Broken("wrong_type")


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _tools(raw: dict[str, Any], mapping: Mapping) -> list[dict] | None:
    tools = _from_json(raw.get(mapping.tools)) if mapping.tools else None
    if tools in (None, "", []):
        return None
    if not isinstance(tools, list) or any(not isinstance(tool, dict) for tool in tools):
        raise _Broken("wrong_type")
    try:
        return json.loads(json.dumps(tools, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise _Broken("wrong_type") from None


def _check_roles(messages: list[Message]) -> None:
    """Check that a system turn comes first only, and that user and assistant alternate (tool results between them)."""
    before = ""
    for message in messages:
        if message.role not in _FOLLOWS[before]:
            raise _Broken("wrong_roles")
        before = message.role
    if "assistant" not in {message.role for message in messages}:
        raise _Broken("wrong_roles")


def _check_texts(messages: list[Message]) -> None:
    for message in messages:
        if message.role == "user" and is_blank(message.content):
            raise _Broken("empty_prompt")
        if message.role == "assistant" and is_blank(message.content):
            raise _Broken("empty_answer")
