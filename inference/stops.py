"""Stop texts and banned texts under a tokenizer: when a text is reached, and which ids write it."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

BREAKERS = ("\n", ":", '"', "*")


def stop_check(tokenizer: Any, texts: list[str]) -> Callable[[list[int]], bool] | None:
    """Whether the text of some written ids holds one of `texts`; None where there is none to look for.

    Looked at are only the last tokens, as many as the longest text could take.
    """
    if not texts:
        return None
    reach = max(len(text.encode()) for text in texts) + 4

    def reached(ids: list[int]) -> bool:
        tail = tokenizer.decode(ids[-reach:], clean_up_tokenization_spaces=False)
        return any(text in tail for text in texts)

    return reached


def cut(text: str, texts: list[str]) -> str:
    """`text` up to the first of the stop texts in it."""
    places = [text.find(one) for one in texts if one in text]
    return text[: min(places)] if places else text


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
