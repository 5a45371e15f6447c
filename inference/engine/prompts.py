"""From a prompt to the ids that a model receives; limits are reported as sentences."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.words import is_utf8

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLES = ("system", "user", "assistant", "tool")
Messages = Sequence[Mapping[str, str]]


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", prompt: str | Messages, raw: bool = False) -> list[int]:
    """Return the ids of a prompt: a text, or a conversation of {role, content}.

    A text is one user message under the chat template, without additional special tokens. Without a template, or with
    `raw`, it is plain text with the tokenizer's own special tokens. Raises UserError for an empty prompt, a
    conversation that the template refuses, and one that does not end with a question.
    """
    if isinstance(prompt, str):
        check_text(prompt)
        plain = raw or not tokenizer.chat_template
        ids = tokenizer(prompt)["input_ids"] if plain else _chat_ids(tokenizer, [{"role": "user", "content": prompt}])
    else:
        check_messages(prompt)
        if raw:
            raise UserError("decode.raw_messages")
        ids = _chat_ids(tokenizer, prompt)
    if not ids:
        raise UserError("decode.prompt_empty")
    return list(ids)


def _chat_ids(tokenizer: "PreTrainedTokenizerBase", messages: Messages) -> list[int]:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise UserError("decode.no_template", value=len(messages))
    try:
        turns: list[dict[str, Any]] = [dict(message) for message in messages]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise UserError("decode.template_refuses", reason=str(error)[:200]) from None
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def read_messages(path: Path) -> list[dict[str, str]]:
    """Return the conversation in a JSON file: a list of {role, content}. Raises UserError that says what is wrong with
    it."""
    try:
        messages = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError("decode.messages_file", value=str(path)[:200], reason=error.strerror or str(error)) from None
    except ValueError as error:
        raise UserError("decode.messages_json", value=str(path)[:200], reason=str(error)[:120]) from None
    except RecursionError:
        raise UserError("decode.messages_deep", value=str(path)[:200]) from None
    check_messages(messages)
    return messages


def check_text(prompt: str) -> None:
    """Raise UserError for a blank prompt, and for one that is not valid UTF-8."""
    if not prompt.strip():
        raise UserError("decode.prompt_empty")
    if not is_utf8(prompt):
        raise UserError("decode.prompt_encoding")


def check_messages(messages: object) -> None:
    """Raise UserError unless this is a conversation that a model can answer."""
    if not isinstance(messages, list | tuple) or not messages:
        raise UserError("decode.messages_list")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
            raise UserError("decode.message_form", number=number)
        if message["role"] not in ROLES:
            raise UserError(
                "decode.message_role", number=number, value=str(message["role"])[:40], known=", ".join(ROLES)
            )
        if not isinstance(message["content"], str):
            raise UserError("decode.message_content", number=number)
        if not is_utf8(message["content"]):
            raise UserError("decode.message_encoding", number=number)
    if messages[-1]["role"] not in ("user", "tool"):
        raise UserError("decode.message_last", number=len(messages), value=messages[-1]["role"])
    if not messages[-1]["content"].strip():
        raise UserError("decode.prompt_empty")


def check_context(prompt_tokens: int, max_new_tokens: int, context_length: int) -> None:
    """Raise UserError that says by how many tokens a prompt and its answer exceed the model's context."""
    over = prompt_tokens + max_new_tokens - context_length
    if over > 0:
        facts = {"prompt": prompt_tokens, "new": max_new_tokens, "context": context_length, "over": over}
        raise UserError("decode.context", **facts)
