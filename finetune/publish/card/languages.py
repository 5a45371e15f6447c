"""Guess the languages of a text by its script and its most frequent small words, for a card that people edit."""

import re
from collections import Counter
from collections.abc import Iterable

_MOST_CHARACTERS = 200_000
_SHARE = 0.1
_FEWEST = 3
_SCRIPTS = {
    "ja": r"[\u3040-\u30ff]",
    "ko": r"[\uac00-\ud7af]",
    "zh": r"[\u4e00-\u9fff]",
    "ru": r"[\u0400-\u04ff]",
    "ar": r"[\u0600-\u06ff]",
    "he": r"[\u0590-\u05ff]",
    "hi": r"[\u0900-\u097f]",
    "th": r"[\u0e00-\u0e7f]",
    "el": r"[\u0370-\u03ff]",
}
_WORDS = {
    "en": "the and of to is in that for it you with what how are this",
    "fr": "le la les des et est une dans que pour qui sur pas avec vous",
    "de": "der die das und ist nicht ein eine mit auf für sich den wie ich",
    "es": "el los las que una por con para del como pero más está son y",
    "it": "il che di una per non con sono della gli più come nel anche è",
    "pt": "o os que uma para com não do da em mais como por são você",
}
_SMALL = {language: set(words.split()) for language, words in _WORDS.items()}
_LATIN = re.compile(r"[a-zà-öø-ÿ]+")


def languages(texts: Iterable[str]) -> list[str]:
    """Return the codes of the languages that make up a tenth of the texts or more, most frequent first; empty where
    nothing is recognized."""
    text = _beginning(texts).lower()
    counts: Counter[str] = Counter()
    for language, script in _SCRIPTS.items():
        counts[language] = len(re.findall(script, text)) * 2
    if counts["ja"] * 10 > counts["zh"]:
        counts["ja"] += counts.pop("zh", 0)
    words = Counter(_LATIN.findall(text))
    latin = sum(len(word) * count for word, count in words.items())
    small = {name: sum(words[word] for word in known) for name, known in _SMALL.items()}
    best = max(small, key=lambda name: small[name])
    if small[best] >= _FEWEST and small[best] * 30 > sum(words.values()):
        counts[best] = latin
    total = sum(counts.values()) or 1
    return [language for language, count in counts.most_common() if count >= _SHARE * total and count > 0]


def _beginning(texts: Iterable[str]) -> str:
    kept: list[str] = []
    size = 0
    for text in texts:
        kept.append(text[: _MOST_CHARACTERS - size])
        size += len(kept[-1])
        if size >= _MOST_CHARACTERS:
            break
    return "\n".join(kept)
