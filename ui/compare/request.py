"""The requests of Compare: the comparison that its fields describe, and the questions of its cards."""

import math
from typing import Any

from core.errors import UserError
from core.words import say
from core.workspace import Owner
from inference.compare.request import CompareRequest
from inference.models import generation_config
from inference.strategies import sweeps
from ui.compare.board import columns_of, lines_of


def request_of(
    prompt: str,
    lines: list[str],
    *,
    model: str,
    seed: Any,
    length: Any,
    dtype: str,
    system: str,
    turns: str,
    raw: bool,
    exact: bool,
) -> CompareRequest:
    """Return the request that the fields describe. Raises UserError for an invalid number or conversation."""
    before = _messages(system or "", turns or "")
    conversation: dict[str, Any] = {"prompt": prompt}
    if before:
        conversation = {"messages": [*before, {"role": "user", "content": prompt}]}
    return CompareRequest(
        model=(model or "").strip(),
        columns=lines,
        seed=_whole(seed, "page.seed"),
        max_new_tokens=_whole(length, "page.max_new_tokens"),
        dtype=None if dtype == "auto" else dtype,
        raw=bool(raw),
        exact=bool(exact),
        **conversation,
    )


def _whole(value: Any, name: str) -> int:
    if not isinstance(value, int | float) or value != int(value):
        raise UserError("page.whole_number", field=say(name), value="" if value is None else str(value)[:40])
    return int(value)


def _messages(system: str, turns: str) -> list[dict[str, str]]:
    """Return the conversation before the prompt: lines that begin with `User:` or `Assistant:` start a turn, others
    continue it."""
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


def answer(value: Any, model: str, owner: Owner) -> tuple[dict[str, Any], str]:
    """Return the answer to the question in the board's value (columns to lay out, or one to add) and a sentence about
    it, which may be empty. Raises UserError."""
    question = value.get("ask") if isinstance(value, dict) else None
    if not isinstance(question, dict):
        raise UserError("page.no_board")
    number = question.get("number")
    if question.get("kind") == "authors":
        config = generation_config.generation_config(model, owner)
        left = ", ".join(generation_config.unsupported_settings(config))
        said = say("board.authors_left", names=left) if left else ""
        return {"number": number, "add": columns_of([generation_config.settings_line(config)])[0]}, said
    return {"number": number, "lay": columns_of(_sweep(lines_of(value), question))}, ""


def _sweep(lines: list[str], question: dict[str, Any]) -> list[str]:
    index = question.get("card")
    if not isinstance(index, int) or not 0 <= index < len(lines):
        raise UserError("page.no_board")
    line, knob = lines[index], str(question.get("knob", ""))
    if typed := str(question.get("values") or "").strip():
        return sweeps.sweep(line, knob, sweeps.values_of(typed))
    low, high, count = (_number(question, name) for name in ("low", "high", "count"))
    scale = str(question.get("scale", "linear"))
    return sweeps.sweep(line, knob, sweeps.spread(line, knob, low, high, int(count), scale))


def _number(question: dict[str, Any], name: str) -> float:
    typed = str(question.get(name, ""))
    try:
        value = float(typed)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError("board.sweep_number", field=say(f"board.sweep_{name}"), value=typed[:40])
    return value
