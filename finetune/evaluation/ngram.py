"""An interpolated Kneser-Ney n-gram model over token ids: a baseline that only counts.

It uses the model's own tokens, so that its loss per token can be compared with the model's. Counts and the recursion
over orders are those of `nltk.lm`; `_Indexed` changes two things.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from math import log
from typing import Any

from nltk.lm.models import InterpolatedLanguageModel
from nltk.lm.smoothing import KneserNey

ORDER = 3
_START = -1
_USUAL_DISCOUNT = 0.75
_LARGEST_DISCOUNT = 0.95
_NOTHING: Counter[int] = Counter()
Context = tuple[int, ...]


class NgramModel:
    """An interpolated Kneser-Ney model of a given order over ids from 0 to `vocabulary` - 1 (Kneser & Ney 1995,
    interpolated as in Chen & Goodman 1998). Every row starts after start marks."""

    def __init__(self, vocabulary: int, order: int = ORDER) -> None:
        assert order >= 2, "an order of 1 has no context to smooth over"
        self.vocabulary, self.order = vocabulary, order
        self.tokens = 0
        self._counts: list[list[tuple[int, ...]]] = []
        self._model: Any = None

    def add(self, ids: Sequence[int]) -> None:
        """Count one row's n-grams of every order."""
        assert self._model is None, "what is added after the first question would not be in the index"
        self.tokens += len(ids)
        self._counts.append([gram for position in range(len(ids)) for gram in self._grams(ids, position)])

    def _grams(self, ids: Sequence[int], position: int) -> Iterator[tuple[int, ...]]:
        """Yield the n-grams that end at a position, one of each order."""
        context = self._context(ids, position)
        for length in range(self.order):
            yield (*context[len(context) - length :], ids[position])

    def _context(self, ids: Sequence[int], position: int) -> Context:
        before = tuple(ids[max(0, position - self.order + 1) : position])
        return (_START,) * (self.order - 1 - len(before)) + before

    @property
    def discount(self) -> float:
        """The discount that is subtracted from every count (see `_discount`)."""
        return self._built().estimator.discount

    def probability(self, word: int, context: Context) -> float:
        """Return the probability of a token after a context; over the whole vocabulary they sum to 1."""
        return self._built().unmasked_score(word, context)

    def loss(self, ids: Sequence[int], labels: Sequence[int], ignored: int = -100) -> float:
        """Return the summed loss, in nats, of a row's labels after the first position; the tokens before each are its
        context."""
        positions = (position for position in range(1, len(ids)) if labels[position] != ignored)
        return -sum(log(self.probability(ids[position], self._context(ids, position))) for position in positions)

    def _built(self) -> Any:
        if self._model is None:
            model: Any = InterpolatedLanguageModel(_Indexed, self.order, params={"size": self.vocabulary})
            model.counts.update(self._counts)
            model.estimator.index(self.order)
            self._model, self._counts = model, []
        return self._model


class _Indexed(KneserNey):
    """nltk's Kneser-Ney with continuation counts from an index instead of a search, and a probability for unseen
    tokens.

    nltk searches all contexts for every query, and gives an unseen token a probability of 0; here the discount of the
    lowest order is distributed over the whole vocabulary (Chen & Goodman 1998, equation 23).
    """

    def __init__(self, vocabulary: Any, counter: Any, size: int, **settings: Any) -> None:
        super().__init__(vocabulary, counter, order=0, **settings)
        self._size = size
        self._continuations: dict[Context, Counter[int]] = {}
        self._totals: dict[Context, int] = {}

    def index(self, order: int) -> None:
        """Build the index of continuation counts, and choose the discount."""
        self._order, self.discount = order, _discount(self.counts[order])
        found: defaultdict[Context, Counter[int]] = defaultdict(Counter)
        for length in range(2, order + 1):
            for context, followers in self.counts[length].items():
                found[context[1:]].update(followers.keys())
        self._continuations = dict(found)
        self._totals = {context: counts.total() for context, counts in found.items()}

    def _continuation_counts(self, word: int, context: Context = ()) -> tuple[int, int]:
        """Return how many different tokens come before `context` and `word`, and before `context` and any token."""
        return self._continuations.get(context, _NOTHING)[word], self._totals.get(context, 0)

    def unigram_score(self, word: int) -> float:
        count, total = self._continuation_counts(word)
        shared = self.discount * len(self._continuations[()]) / total
        return max(count - self.discount, 0.0) / total + shared / self._size


def _discount(highest: Any) -> float:
    """Return n1 / (n1 + 2 n2), where n1 and n2 are the n-grams of the highest order seen once and twice (Ney, Essen &
    Kneser 1994)."""
    seen = Counter(count for followers in highest.values() for count in followers.values())
    once, twice = seen[1], seen[2]
    return min(once / (once + 2 * twice), _LARGEST_DISCOUNT) if once else _USUAL_DISCOUNT
