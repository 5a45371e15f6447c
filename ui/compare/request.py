"""What the fields of the Compare tab ask for, as a request."""

from typing import Any

from core.errors import UserError
from core.words import say
from inference.compare.service import CompareRequest


def request_of(
    prompt: str,
    lines: list[str],
    model: str,
    seed: Any,
    length: Any,
    dtype: str,
    system: str,
    turns: str,
    raw: bool,
    exact: bool,
) -> CompareRequest:
    """The request behind the fields. Raises UserError for a number or a conversation that is none."""
    before = _messages(system or "", turns or "")
    asked: dict[str, Any] = {"prompt": prompt}
    if before:
        asked = {"messages": [*before, {"role": "user", "content": prompt}]}
    return CompareRequest(
        model=(model or "").strip(),
        columns=lines,
        seed=_whole(seed, "page.seed"),
        max_new_tokens=_whole(length, "page.max_new_tokens"),
        dtype=None if dtype == "auto" else dtype,
        raw=bool(raw),
        exact=bool(exact),
        **asked,
    )


def _whole(value: Any, name: str) -> int:
    if not isinstance(value, int | float) or value != int(value):
        raise UserError("page.whole_number", field=say(name), value="" if value is None else str(value)[:40])
    return int(value)


def _messages(system: str, turns: str) -> list[dict[str, str]]:
    """The conversation before the prompt: lines that begin with `User:` or `Assistant:`, others continue the turn."""
    messages = [{"role": "system", "content": system.strip()}] if system.strip() else []
    for line in turns.splitlines():
        name, colon, text = line.partition(":")
        role = name.strip().lower()
        if colon and role in ("user", "assistant"):
            messages.append({"role": role, "content": text.strip()})
        elif line.strip() and messages and messages[-1]["role"] != "system":
            messages[-1]["content"] += "\n" + line
        elif line.strip():
            raise UserError("page.turn_form", value=line[:80])
    return messages
