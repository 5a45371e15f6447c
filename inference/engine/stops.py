"""Stop texts and banned texts under a tokenizer: when a text is reached, and which ids write it."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from inference.engine.detokenize import UNFINISHED

BREAKERS = ("\n", ":", '"', "*")


def stop_check(tokenizer: Any, texts: list[str]) -> Callable[[list[int]], bool] | None:
    """Whether the last of some written ids completes one of `texts`; None where there is none to look for.

    Looked at are only the last tokens, as many as the longest text could take.
    """
    if not texts:
        return None
    reach = max(len(text.encode()) for text in texts) + 4

    def reached(ids: list[int]) -> bool:
        before, tail = (
            tokenizer.decode(part, clean_up_tokenization_spaces=False) for part in (ids[-reach:-1], ids[-reach:])
        )
        return bool(_places(tail, texts, before))

    return reached


def cut(text: str, texts: list[str], before: str) -> str:
    """`text` up to the first of the stop texts that its last token completed; `before` is the text without it."""
    return text[: min(_places(text, texts, before), default=None)]


def _places(text: str, texts: list[str], before: str) -> list[int]:
    """Where those of `texts` begin that stand in `text` and end behind what `before` has of it."""
    old = len(before.rstrip(UNFINISHED))
    found = (text.find(one, max(0, old - len(one) + 1)) for one in texts)
    return [place for place in found if place >= 0]


class HeldBack:
    """The end of a growing text, kept back as long as it may be the beginning of one of the stop `texts`: what is given
    need never be taken back. `given` counts the characters that were."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts
        self.held = ""
        self.given = 0

    def add(self, piece: str) -> str:
        """Take more text; returns what is firm now."""
        text = self.held + piece
        firm = text[: len(text) - _begun(text, self._texts)]
        self.held = text[len(firm) :]
        self.given += len(firm)
        return firm


def _begun(text: str, texts: list[str]) -> int:
    """How many characters at the end of `text` are the beginning, but not the whole, of one of `texts`."""
    sizes = (size for one in texts for size in range(1, len(one)) if text.endswith(one[:size]))
    return max(sizes, default=0)


def banned_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """The id sequences that write each text, at the beginning of a line and behind a space."""
    forms = [form for text in texts for form in (text, " " + text)]
    found = {tuple(tokenizer(form, add_special_tokens=False)["input_ids"]) for form in forms}
    return [list(ids) for ids in sorted(found) if ids]


@lru_cache(maxsize=4)
def breaker_ids(tokenizer: Any, size: int) -> frozenset[int]:
    """The tokens that no repetition reaches over: those that end with a sequence breaker of DRY."""
    texts = tokenizer.batch_decode([[token] for token in range(min(size, len(tokenizer)))])
    return frozenset(token for token, text in enumerate(texts) if text.rstrip(" ").endswith(BREAKERS))
