"""A conversation under a model's chat template: its text, and the positions of the answers in it.

The answers are found by rendering the conversation again with each answer replaced by a mark. The text around a mark
comes from the template, so the text between is the answer as the template changed it (trimmed, without reasoning).
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError

from core.errors import UserError
from core.rows import ChatRow
from core.words import say

DEFAULT = Path(__file__).with_name("chatml.jinja")
_MARK = "QZXJVKWMARK"

Span = tuple[int, int]
Turns = list[dict[str, str]]
_QUESTION: Turns = [{"role": "user", "content": "x"}]


@dataclass(frozen=True)
class Rendered:
    """A row as the text that the model reads; `spans` are the character ranges [start, end) that are learned.

    `special` says whether the tokenizer adds its special tokens around the text, `ends` whether an end token follows.
    """

    text: str
    spans: list[Span]
    special: bool = False
    ends: bool = False


class TemplateRefusal(UserError):
    """The template refuses this conversation."""

    def __init__(self, reason: str) -> None:
        super().__init__("data.template_refuses", reason=reason)
        self.reason = reason


class ChatRenderer:
    """Renders conversations with one tokenizer's template, or with the shipped template where the tokenizer has none.

    The shipped template is ChatML; an answer is closed by the tokenizer's own end token, at which generation stops.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._template = None if tokenizer.chat_template else DEFAULT.read_text(encoding="utf-8")
        self._special = special_pattern(tokenizer)

    def render(self, row: ChatRow) -> Rendered:
        """Return the text of a conversation and the spans of its answers, each including its end token.

        Raises TemplateRefusal where the template refuses the conversation.
        """
        return _Conversation(self, row).rendered()

    def text(self, turns: Turns, tools: list[dict] | None, *, prompt: bool = False) -> str:
        """Render turns as text; with `prompt`, up to where the next answer begins. Raises
        TemplateRefusal where the template refuses them."""
        try:
            return self._tokenizer.apply_chat_template(
                turns,
                tools=tools,
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=prompt,
            )
        except (TemplateError, TypeError, ValueError, KeyError, IndexError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise TemplateRefusal(say("data.template_reason", reason=reason[:200])) from error

    @functools.cached_property
    def header(self) -> str:
        """The text that the template writes before an answer ("<|im_start|>assistant\\n"); empty where it writes
        nothing."""
        prompt, without_prompt = self.text(_QUESTION, None, prompt=True), self.text(_QUESTION, None)
        return prompt[len(without_prompt) :] if prompt.startswith(without_prompt) else ""

    @functools.cached_property
    def tail(self) -> str:
        """The text that the template writes after the last answer ("<|im_end|>\\n")."""
        return self.text([*_QUESTION, {"role": "assistant", "content": _MARK}], None).partition(_MARK)[2]

    def closed(self, text: str, end: int) -> int:
        """Return the end of an answer including its end token: a special token, or the text that the template writes
        there."""
        if self._end_tokens:
            for _ in range(self._end_tokens):
                token = self._special.match(text, end)
                end = token.end() if token else end
            return end
        tail = self.tail.rstrip()
        return end + len(tail) if text.startswith(tail, end) else end

    @functools.cached_property
    def _end_tokens(self) -> int:
        """The number of special tokens directly after the last answer."""
        count, end = 0, 0
        while (token := self._special.match(self.tail, end)) and (not count or not token.group()[0].isspace()):
            count, end = count + 1, token.end()
        return count


def special_pattern(tokenizer: Any) -> re.Pattern[str]:
    """Return a pattern that matches one special token of a tokenizer, with white space before it; for a tokenizer
    without special tokens, one that matches nothing."""
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    longest_first = sorted(special | set(tokenizer.all_special_tokens), key=len, reverse=True)
    return re.compile(r"\s*(?:" + "|".join(map(re.escape, longest_first)) + ")" if longest_first else r"(?!)")


class _Conversation:
    """One conversation rendered by a renderer."""

    def __init__(self, renderer: ChatRenderer, row: ChatRow) -> None:
        self._renderer, self._tools = renderer, row.tools
        self._turns: Turns = [message.model_dump() for message in row.messages]
        self._answers = [index for index, turn in enumerate(self._turns) if turn["role"] == "assistant"]
        self._text = self._render(self._turns)

    def _render(self, turns: Turns, *, prompt: bool = False) -> str:
        return self._renderer.text(turns, self._tools, prompt=prompt)

    def rendered(self) -> Rendered:
        answers = self._all_spans() or [self._span(index) for index in self._answers]
        spans = [
            (self._begin(index, start), self._renderer.closed(self._text, end))
            for index, (start, end) in zip(self._answers, answers, strict=True)
        ]
        return Rendered(self._text, spans)

    def _marked(self, marks: dict[int, str]) -> Turns:
        return [{**turn, "content": marks.get(index, turn["content"])} for index, turn in enumerate(self._turns)]

    def _all_spans(self) -> list[Span] | None:
        """Return the spans of all answers, from one rendering with marks; None where the template changes answers."""
        marks = {index: f"{_MARK}{index}E" for index in self._answers}
        first, *following = re.split("|".join(marks.values()), self._render(self._marked(marks)))
        if len(following) != len(marks) or not self._text.startswith(first):
            return None
        spans, position = [], len(first)
        for index, behind in zip(self._answers, following, strict=True):
            answer = self._turns[index]["content"]
            forms = [form for form in (answer, answer.strip()) if self._text.startswith(form + behind, position)]
            if not forms:
                return None
            spans.append((position, position + len(forms[0])))
            position += len(forms[0]) + len(behind)
        return spans if position == len(self._text) else None

    def _span(self, index: int) -> Span:
        """Return the span of one answer, from a rendering in which only this answer is marked."""
        before, mark, after = self._render(self._marked({index: _MARK})).partition(_MARK)
        if not self._text.startswith(before):
            before = _shared_start(self._text, self._render(self._turns[:index], prompt=True))
            if not before.startswith(self._render(self._turns[:index])):
                raise TemplateRefusal(say("data.template_unclear"))
        start, end = len(before), len(self._text) - len(after)
        if not mark or start > end or not self._text.endswith(after):
            raise TemplateRefusal(say("data.template_unclear"))
        return start, end

    def _begin(self, index: int, start: int) -> int:
        """Return where the model begins to write: after the prompt of the answer."""
        header = self._renderer.header
        if header and self._text.endswith(header, 0, start):
            return start
        prompt = self._render(self._turns[:index], prompt=True)
        return len(prompt) if self._text.startswith(prompt) and len(prompt) <= start else start


def _shared_start(first: str, second: str) -> str:
    length = next((index for index, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), None)
    return first[: min(len(first), len(second)) if length is None else length]
