"""Whether a text can be written down at all."""


def is_utf8(text: str) -> bool:
    """Whether a text has no lone surrogates: they stand for bytes that are no UTF-8, and for half a character."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
