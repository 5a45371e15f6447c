"""The row kinds that every data file is converted into, once, on import."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Role = Literal["system", "user", "assistant", "tool"]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Message(_Row):
    """One turn of a conversation."""

    role: Role
    content: str


class ChatRow(_Row):
    """A conversation; the assistant's turns are trained on."""

    messages: list[Message]
    tools: list[dict] | None = None


class TextRow(_Row):
    """Plain text; all of it is trained on."""

    text: str


class PairRow(_Row):
    """A source and its target, without a chat template (translation and the like)."""

    source: str
    target: str


class PreferenceRow(_Row):
    """A chosen and a rejected answer to one prompt."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]


class RatedRow(_Row):
    """An answer with a thumbs up or down."""

    prompt: list[Message]
    completion: list[Message]
    good: bool


class LabelledRow(_Row):
    """One or two texts with class labels or a value."""

    text: str
    text_b: str | None = None
    labels: list[str] | None = None
    value: float | None = None


class TaggedRow(_Row):
    """Tokens with one tag each."""

    tokens: list[str]
    tags: list[str]


Row = ChatRow | TextRow | PairRow | PreferenceRow | RatedRow | LabelledRow | TaggedRow

KINDS: dict[str, type[Row]] = {
    "chat": ChatRow,
    "text": TextRow,
    "pair": PairRow,
    "preference": PreferenceRow,
    "rated": RatedRow,
    "labelled": LabelledRow,
    "tagged": TaggedRow,
}
