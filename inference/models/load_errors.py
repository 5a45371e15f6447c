"""Errors of other libraries on a stranger's file, as sentences: they may be of any type."""

from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import UserError


@contextmanager
def in_words(code: str, **facts: object) -> Iterator[None]:
    """Turn what transformers, PEFT or safetensors raise inside the block into the sentence `code` ("{error}" in it).

    A UserError and a lack of memory are not changed.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        raise UserError(code, **facts, error=line(error)) from error


def line(error: Exception) -> str:
    """Return the first line of an error, short enough for a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
