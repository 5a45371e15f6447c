"""A few held-out prompts answered by base and tuned model side by side, greedily, in one batch where possible."""

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.rows import ChatRow, PairRow, Row, TextRow
from finetune.training.sampling import OPENING_WORDS, SHOWN_CHARACTERS, row_prompt
from inference.engine.batch import Panel
from inference.engine.engine import compare
from inference.events import Done
from inference.models.adapters import mixable
from inference.strategies.table import parse_column

if TYPE_CHECKING:
    from finetune.evaluation.losses import Tell, Turn
    from inference.models.loading import Loaded

TOKENS = 80
_BASE, _TUNED = 0, 1


def samples(
    rows: Sequence[Row],
    base: "Loaded",
    tuned: "Loaded",
    stop: threading.Event,
    tell: "Tell" = lambda done, total: None,
    turn: "Turn" = nullcontext,
) -> list[dict[str, Any]]:
    """Return for each row its prompt, the answer in the row, and what each model generates, at most `TOKENS` tokens."""
    written = []
    for done, row in enumerate(rows):
        tell(done, len(rows))
        prompt = row_prompt(row, tuned.tokenizer)
        with turn():
            texts = _answers(prompt.ids, base, tuned, stop)
        facts = {"prompt": prompt.text, "reference": _shortened(reference(row))}
        written.append(facts | dict(zip(("base", "tuned"), texts, strict=True)))
    return written


def reference(row: Row) -> str:
    """Return the answer in a row: what comes after `sampling.row_prompt`."""
    if isinstance(row, ChatRow):
        return [message.content for message in row.messages if message.role == "assistant"][-1]
    if isinstance(row, PairRow):
        return row.target
    assert isinstance(row, TextRow), "preferences are read as the conversation with the better answer"
    return " ".join(row.text.split()[OPENING_WORDS:])


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _answers(ids: list[int], base: "Loaded", tuned: "Loaded", stop: threading.Event) -> list[str]:
    """Return what both models generate. A prompt that leaves no room for the answer in the context is truncated from
    the left."""
    room = max(min(base.context_length, tuned.context_length) - TOKENS, 1)
    events = compare(_panels(ids[-room:], base, tuned), seed=0, max_new_tokens=TOKENS, stop=stop)
    result = next(event.result for event in events if isinstance(event, Done))
    if stop.is_set():
        raise UserError("evaluate.stopped")
    return [column.error or column.text.strip() for column in result.columns]


def _panels(ids: list[int], base: "Loaded", tuned: "Loaded") -> list[Panel]:
    columns = [(_BASE, parse_column("greedy")), (_TUNED, parse_column("greedy"))]
    if mixable(tuned.source):
        return [Panel(tuned, ids, columns, frozenset({_BASE}))]
    return [Panel(base, ids, columns[:1]), Panel(tuned, ids, columns[1:])]
