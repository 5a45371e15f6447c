"""Samples during training: a greedy answer to a few prompts at each evaluation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria

from core.rows import ChatRow, Message, PairRow, PreferenceRow, Row, TextRow
from finetune.data.tokenizing.chat_template import ChatRenderer, TemplateRefusal
from finetune.kernels.sharding import is_sharded
from inference.models.model_config import context_length

OPENING_WORDS = 12
SHOWN_CHARACTERS = 2000


@dataclass(frozen=True)
class Prompt:
    """A prompt as shown and as token ids."""

    text: str
    ids: list[int]


class _StopRequested(StoppingCriteria):
    def __init__(self, stop_requested: Callable[[], bool]) -> None:
        self.stop_requested = stop_requested

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self.stop_requested(), device=input_ids.device, dtype=torch.bool)


def typed_prompt(text: str, tokenizer: Any) -> Prompt:
    """Return a prompt from the config: one user message where the model has a chat template, else plain text."""
    if tokenizer.chat_template:
        return _chat_prompt([Message(role="user", content=text)], None, tokenizer)
    return _plain_prompt(text, text, tokenizer)


def row_prompt(row: Row, tokenizer: Any) -> Prompt:
    """Return the prompt of a row: a conversation up to its last answer, a source, or the first words of a text."""
    if isinstance(row, ChatRow):
        answers = [index for index, message in enumerate(row.messages) if message.role == "assistant"]
        return _chat_prompt(row.messages[: answers[-1]], row.tools, tokenizer)
    if isinstance(row, PreferenceRow):
        return _chat_prompt(row.prompt, None, tokenizer)
    if isinstance(row, PairRow):
        return _plain_prompt(row.source, row.source + "\n", tokenizer)
    assert isinstance(row, TextRow), "other kinds are not trained this way"
    opening = " ".join(row.text.split()[:OPENING_WORDS])
    return _plain_prompt(opening, opening, tokenizer)


def _plain_prompt(shown: str, text: str, tokenizer: Any) -> Prompt:
    return Prompt(_shortened(shown), tokenizer(text)["input_ids"])


def _chat_prompt(messages: list[Message], tools: list[dict] | None, tokenizer: Any) -> Prompt:
    """Return a conversation as a prompt. Where the template refuses it (such a row is not learned either), only its
    last turn is used, or its plain text."""
    last = messages[-1].content
    for conversation in (messages, [Message(role="user", content=last)]):
        try:
            turns = [message.model_dump() for message in conversation]
            text = ChatRenderer(tokenizer).text(turns, tools, prompt=True)
            return Prompt(_shortened(last), tokenizer(text, add_special_tokens=False)["input_ids"])
        except TemplateRefusal:
            continue
    return _plain_prompt(last, last, tokenizer)


def _shortened(text: str) -> str:
    """Return a prompt shortened for display: it is written to the events at every evaluation."""
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def write_sample(model: Any, tokenizer: Any, prompt: Prompt, tokens: int, stop: Callable[[], bool]) -> str:
    """Return what the model generates after a prompt, greedily; it uses no random numbers, so training is not affected.

    A prompt that leaves no room for the answer in the model's context is truncated from the left.
    """
    room = max(context_length(model.config) - tokens, 1)
    own = model.generation_config
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=tokens,
        eos_token_id=own.eos_token_id if own else tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id or 0,
    )
    ids = torch.tensor([prompt.ids[-room:]], device=next(model.parameters()).device)
    with torch.no_grad():
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=settings,
            stopping_criteria=[_StopRequested(stop)],
            synced_gpus=is_sharded(model),
        )
    return tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
