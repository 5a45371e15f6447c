"""Turns token ids into text piece by piece; a piece that was returned never changes."""

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNFINISHED = "\ufffd"


def decode(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    """Return the text of `ids` without special tokens, spaces unchanged."""
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class Detokenizer:
    """The text of a growing list of ids, in linear time.

    Only the ids since the last complete piece are decoded again. A character whose bytes are spread over several tokens
    is held back until its last byte is there.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = 0
        self._given = 0
        self.text = ""

    def add(self, ids: list[int]) -> str:
        """Add ids and return the text that became final."""
        added = ""
        for token_id in ids:
            self._ids.append(token_id)
            added += self._final_piece()
        self.text += added
        return added

    def _final_piece(self) -> str:
        piece = self._ahead([])
        if not piece or piece.endswith(UNFINISHED):
            return ""
        self._start, self._given = self._given, len(self._ids)
        return piece

    def draft(self, ids: list[int]) -> str:
        """Return the text that would follow the final text if `ids` came next, an unfinished character included."""
        return self._ahead(ids)

    def _ahead(self, ids: list[int]) -> str:
        """Return what the ids without returned text, and `ids` after them, add to the text."""
        if len(self._ids) == self._given and not ids:
            return ""
        before = decode(self._tokenizer, self._ids[self._start : self._given])
        whole = decode(self._tokenizer, self._ids[self._start :] + ids)
        return whole[len(before) :]


class Pieces:
    """The text of single tokens, for the token view; cached."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._before = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
        self._begins = self._decode([])
        self.text = lru_cache(maxsize=65536)(self._text)

    def _text(self, token_id: int) -> str:
        """Return what the token adds after another one: alone, some tokenizers drop its leading space."""
        whole = self._decode([token_id])
        return whole[len(self._begins) :] if whole.startswith(self._begins) else str(self._tokenizer.decode([token_id]))

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode([*self._before, *ids], clean_up_tokenization_spaces=False))
