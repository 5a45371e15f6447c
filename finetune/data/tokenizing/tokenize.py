"""From rows to token ids and labels: what is learned, what is only read, what is truncated.

Each row is rendered as text once and tokenized whole, so the ids are those of `apply_chat_template`; which tokens
carry loss follows from their characters.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.errors import UserError
from core.rows import ChatRow, PairRow, Row, TextRow
from core.words import say
from finetune.data.tokenizing.chat_template import DEFAULT, ChatRenderer, Rendered, Span, TemplateRefusal

IGNORED = -100
_BATCH = 256


@dataclass(frozen=True)
class Encoded:
    """One row under a tokenizer: `labels` are the ids where loss is carried and -100 elsewhere, both of the same
    length, at most max_length; `total` is the length before truncation; `problem` is why a template refused the row."""

    input_ids: list[int]
    labels: list[int]
    total: int
    truncated: bool
    problem: str | None = None

    @property
    def learns(self) -> bool:
        """Whether any token carries loss (the first cannot); rows without such a token are skipped in training."""
        return any(label != IGNORED for label in self.labels[1:])


@dataclass(frozen=True)
class Piece:
    """A piece of text of one or more tokens (whole characters): whether it carries loss, and whether it is
    truncated."""

    text: str
    loss: bool
    cut: bool


@dataclass(frozen=True)
class _Tokens:
    """All tokens of a row before truncation: ids, the characters of each, the ranges of tokens that carry loss."""

    text: str
    ids: list[int]
    offsets: list[Span]
    learned: list[Span]

    def loss(self) -> list[bool]:
        """Return for each token whether it carries loss."""
        loss = [False] * len(self.ids)
        for first, last in self.learned:
            loss[first:last] = [True] * (last - first)
        return loss


def encode(row: Row, tokenizer: Any, max_length: int) -> Encoded:
    """Return the token ids and labels of one row.

    chat: the model's chat template, loss on each assistant answer with its end token; text: all of it and an end token;
    pair: source, newline, target, loss on the target and an end token. Truncated to `max_length` from the right. Raises
    UserError where the template refuses the row, and for kinds that are not trained this way.
    """
    return _cut(_tokens([_render(row, ChatRenderer(tokenizer))], tokenizer)[0], max_length)


def encode_all(rows: Sequence[Row], tokenizer: Any, max_length: int, learn: str = "answers") -> list[Encoded]:
    """Encode many rows at once, much faster than `encode`; a row that the template refuses gives an empty Encoded with
    its `problem` instead of an exception. Keep only those with `.learns`.

    `learn` says which part of a conversation carries loss: "answers", "last-answer" or "everything".
    """
    renderer = ChatRenderer(tokenizer)
    encoded: list[Encoded] = []
    for start in range(0, len(rows), _BATCH):
        rendered = [_rendered_or_problem(row, renderer, learn) for row in rows[start : start + _BATCH]]
        tokens = iter(_tokens([result for result in rendered if isinstance(result, Rendered)], tokenizer))
        encoded += [
            _cut(next(tokens), max_length) if isinstance(result, Rendered) else Encoded([], [], 0, False, result)
            for result in rendered
        ]
    return encoded


def pieces(row: Row, tokenizer: Any, max_length: int) -> list[Piece]:
    """Return the text of a row as the model reads it, in the order of its tokens. Raises as `encode` does.

    Tokens that share a character are one piece; joined, the pieces are the whole text and the special tokens.
    """
    tokens = _tokens([_render(row, ChatRenderer(tokenizer))], tokenizer)[0]
    special = set(tokenizer.all_special_ids)
    found: list[Piece] = []
    done = 0
    for position, (token, (start, end), loss) in enumerate(zip(tokens.ids, tokens.offsets, tokens.loss(), strict=True)):
        cut = position >= max_length
        if start == end and token in special:
            found.append(Piece(tokenizer.convert_ids_to_tokens(token), loss, cut))
        elif found and (start < done or end <= done):
            last = found.pop()
            found.append(Piece(last.text + tokens.text[done:end], last.loss or loss, last.cut or cut))
        else:
            found.append(Piece(tokens.text[done:end], loss, cut))
        done = max(done, end)
    return found


def ensure_template(tokenizer: Any) -> bool:
    """Give a tokenizer without a chat template the shipped one (ChatML, answers closed by its end token), so that it is
    saved with the model. Returns whether it was added."""
    if tokenizer.chat_template:
        return False
    tokenizer.chat_template = DEFAULT.read_text(encoding="utf-8")
    return True


def _render(row: Row, renderer: ChatRenderer) -> Rendered:
    if isinstance(row, ChatRow):
        return renderer.render(row)
    if isinstance(row, PairRow):
        text = f"{row.source}\n{row.target}"
        return Rendered(text, [(len(row.source) + 1, len(text))], special=True, ends=True)
    if isinstance(row, TextRow):
        return Rendered(row.text, [(0, len(row.text))], special=True, ends=True)
    kind = type(row).__name__.removesuffix("Row").lower()
    raise UserError("data.kind_not_trainable", kind=say(f"data.kind.{kind}"))


def _rendered_or_problem(row: Row, renderer: ChatRenderer, learn: str) -> Rendered | str:
    try:
        rendered = _render(row, renderer)
        if not isinstance(row, ChatRow) or learn == "answers":
            return rendered
        spans = rendered.spans[-1:] if learn == "last-answer" else [(0, len(rendered.text))]
        return replace(rendered, spans=spans)
    except TemplateRefusal as refused:
        return refused.reason


def _tokens(rendered: Sequence[Rendered], tokenizer: Any) -> list[_Tokens]:
    """Tokenize rows (all of one kind) in one call."""
    if not rendered:
        return []
    if not tokenizer.is_fast:
        raise UserError("data.slow_tokenizer", name=type(tokenizer).__name__)
    encoding = tokenizer(
        [row.text for row in rendered],
        add_special_tokens=rendered[0].special,
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,
    )
    rows = zip(rendered, encoding["input_ids"], encoding["offset_mapping"], strict=True)
    return [_with_loss(row, ids, _covering_offsets(offsets), tokenizer.eos_token_id) for row, ids, offsets in rows]


def _covering_offsets(offsets: Sequence[Span]) -> list[Span]:
    """Return offsets in rising order that leave no character out: some tokenizers report a token without its leading
    white space."""
    covering: list[Span] = []
    done = begun = 0
    for start, end in offsets:
        if start > done:
            start = done
        if start < begun:
            start = begun
        covering.append((start, end if end > start else start))
        begun = start
        if end > done:
            done = end
    return covering


def _with_loss(rendered: Rendered, ids: list[int], offsets: list[Span], end_token: int | None) -> _Tokens:
    learned = [_learned(rendered.text, offsets, span) for span in rendered.spans]
    if not rendered.ends or end_token is None:
        return _Tokens(rendered.text, ids, offsets, learned)
    if not ids or ids[-1] != end_token:
        end = len(rendered.text)
        ids, offsets = [*ids, end_token], [*offsets, (end, end)]
    return _Tokens(rendered.text, ids, offsets, [*learned, (len(ids) - 1, len(ids))])


def _learned(text: str, offsets: list[Span], span: Span) -> Span:
    """Return the range of tokens of a span of characters: those that begin in it, and one that crosses its beginning if
    only white space of that token comes before."""
    first = bisect_left(offsets, (span[0],))
    last = bisect_left(offsets, (span[1],), first)
    start, end = offsets[first - 1] if first else (0, 0)
    across = end > span[0] and not text[start : span[0]].strip() and text[span[0] : end].strip()
    return (first - 1 if across else first), last


def _cut(tokens: _Tokens, max_length: int) -> Encoded:
    labels = [IGNORED] * len(tokens.ids)
    for first, last in tokens.learned:
        labels[first:last] = tokens.ids[first:last]
    total = len(tokens.ids)
    return Encoded(tokens.ids[:max_length], labels[:max_length], total, total > max_length)
