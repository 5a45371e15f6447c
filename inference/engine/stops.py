"""Stop texts and banned texts under a tokenizer: when a stop text is reached, and which ids form a banned text."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from inference.engine.detokenize import UNFINISHED

BREAKERS = ("\n", ":", '"', "*")


def stop_check(tokenizer: Any, texts: list[str]) -> Callable[[list[int]], bool] | None:
    """Return a function that says whether the last of some generated ids completes one of `texts`; None without texts.

    Only the last tokens are looked at, as many as the longest text could take.
    """
    if not texts:
        return None
    reach = max(len(text.encode()) for text in texts) + 4

    def reached(ids: list[int]) -> bool:
        before, tail = (
            tokenizer.decode(part, clean_up_tokenization_spaces=False) for part in (ids[-reach:-1], ids[-reach:])
        )
        return bool(_positions(tail, texts, before))

    return reached


def cut(text: str, texts: list[str], before: str) -> str:
    """Return `text` up to the first of the stop texts that its last token completed; `before` is the text without that
    token."""
    return text[: min(_positions(text, texts, before), default=None)]


def _positions(text: str, texts: list[str], before: str) -> list[int]:
    """Return where those of `texts` begin that occur in `text` and end after what `before` has of it."""
    old = len(before.rstrip(UNFINISHED))
    found = (text.find(stop_text, max(0, old - len(stop_text) + 1)) for stop_text in texts)
    return [position for position in found if position >= 0]


class HeldBack:
    """The end of a growing text, held back while it may be the beginning of one of the stop `texts`, so that returned
    text never changes. `given` counts the characters that were returned."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts
        self.held = ""
        self.given = 0

    def add(self, piece: str) -> str:
        """Add text and return what is final now."""
        text = self.held + piece
        firm = text[: len(text) - _partial_length(text, self._texts)]
        self.held = text[len(firm) :]
        self.given += len(firm)
        return firm


def _partial_length(text: str, texts: list[str]) -> int:
    """Return how many characters at the end of `text` are the beginning, but not the whole, of one of `texts`."""
    sizes = (size for stop_text in texts for size in range(1, len(stop_text)) if text.endswith(stop_text[:size]))
    return max(sizes, default=0)


def banned_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Return the id sequences that form each text, at the beginning of a line and after a space."""
    forms = [form for text in texts for form in (text, " " + text)]
    found = {tuple(tokenizer(form, add_special_tokens=False)["input_ids"]) for form in forms}
    return [list(ids) for ids in sorted(found) if ids]


@lru_cache(maxsize=4)
def breaker_ids(tokenizer: Any, size: int) -> frozenset[int]:
    """Return the tokens that no repetition extends over: those that end with a sequence breaker of DRY."""
    texts = tokenizer.batch_decode([[token] for token in range(min(size, len(tokenizer)))])
    return frozenset(token for token, text in enumerate(texts) if text.rstrip(" ").endswith(BREAKERS))
