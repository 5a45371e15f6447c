"""The sentences that people read, one JSON file per area and language in `core/locales` (`run.en.json`, `run.zh.json`).

Code holds keys ("run.not_found"); the page and the shell show the same sentences.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path


def is_utf8(text: str) -> bool:
    """Return whether a text has no lone surrogates, which stand for bytes that are not UTF-8 or for half a
    character."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


FOLDER = Path(__file__).parent / "locales"
LOCALES = ("en", "zh")
_locale: ContextVar[str] = ContextVar("locale", default="en")


def say(key: str, /, **facts: object) -> str:
    """Return the sentence for `key` in the current language, its `{placeholders}` filled from `facts`.

    Falls back to English if a language lacks the key; raises KeyError if English does, too.
    """
    table = catalogue(_locale.get())
    sentence = table[key] if key in table else catalogue("en")[key]
    return sentence.format(**facts)


def counted(key: str, count: int) -> str:
    """Return a number with its noun: `counted("core.rows", 1)` is "1 row", from the sentences `key.one` and
    `key.many`."""
    return say(f"{key}.{'one' if count == 1 else 'many'}", count=count)


@cache
def catalogue(locale: str) -> dict[str, str]:
    """Return all sentences of one language, by key."""
    table: dict[str, str] = {}
    for path in sorted(FOLDER.glob(f"*.{locale}.json")):
        table.update(json.loads(path.read_text(encoding="utf-8")))
    return table


def current() -> str:
    """Return the language that `say` uses now, one of `LOCALES`."""
    return _locale.get()


def nearest(wanted: str | None) -> str:
    """Return the supported language nearest to an Accept-Language header or a `LANG` value; English if there is
    none."""
    for part in (wanted or "").replace("_", "-").split(","):
        tag = part.split(";")[0].split(".")[0].strip().lower()
        for locale in LOCALES:
            if tag == locale or tag.startswith(locale + "-"):
                return locale
    return "en"


@contextmanager
def speaking(locale: str) -> Iterator[None]:
    """Use one language for the sentences made inside the block."""
    before = _locale.set(nearest(locale))
    try:
        yield
    finally:
        _locale.reset(before)


def speak(locale: str) -> None:
    """Use one language from here on in this process or task."""
    _locale.set(nearest(locale))
