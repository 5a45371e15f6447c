"""What the model writes while it learns: a greedy answer to a few prompts at each evaluation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria

from core.rows import ChatRow, Message, PairRow, Row, TextRow

OPENING_WORDS = 12


@dataclass(frozen=True)
class Prompt:
    """A prompt as shown and as the model reads it."""

    text: str
    ids: list[int]


class _StopAsked(StoppingCriteria):
    def __init__(self, asked: Callable[[], bool]) -> None:
        self.asked = asked

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self.asked(), device=input_ids.device, dtype=torch.bool)


def typed_prompt(text: str, tokenizer: Any) -> Prompt:
    """A prompt from the config: one user message where the model has a chat template, else plain text."""
    if tokenizer.chat_template:
        return _chat_prompt([Message(role="user", content=text)], tokenizer)
    return Prompt(text, tokenizer(text)["input_ids"])


def row_prompt(row: Row, tokenizer: Any) -> Prompt:
    """The prompt of a row: a conversation up to its last answer, a source, or the first words of a text."""
    if isinstance(row, ChatRow):
        answers = [place for place, message in enumerate(row.messages) if message.role == "assistant"]
        return _chat_prompt(row.messages[: answers[-1]], tokenizer)
    if isinstance(row, PairRow):
        return Prompt(row.source, tokenizer(row.source + "\n")["input_ids"])
    assert isinstance(row, TextRow), "other kinds are not trained this way"
    opening = " ".join(row.text.split()[:OPENING_WORDS])
    return Prompt(opening, tokenizer(opening)["input_ids"])


def _chat_prompt(messages: list[Message], tokenizer: Any) -> Prompt:
    turns = [message.model_dump() for message in messages]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return Prompt(messages[-1].content, tokenizer(text, add_special_tokens=False)["input_ids"])


def write_sample(model: Any, tokenizer: Any, prompt: Prompt, tokens: int, stop: Callable[[], bool]) -> str:
    """What the model writes after a prompt, greedily; it takes no random numbers, so training is not disturbed."""
    own = model.generation_config
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=tokens,
        eos_token_id=own.eos_token_id if own else tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id or 0,
    )
    ids = torch.tensor([prompt.ids], device=next(model.parameters()).device)
    with torch.no_grad():
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=settings,
            stopping_criteria=[_StopAsked(stop)],
        )
    return tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
