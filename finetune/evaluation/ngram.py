"""An interpolated Kneser-Ney n-gram model over token ids: what counting alone predicts of a text.

It reads the model's own tokens, so that its loss per token stands beside the model's. Counts and the recursion over
orders are `nltk.lm`'s; two things are changed, in `_Indexed`.
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
    """Kneser-Ney of some order over ids from 0 to `vocabulary` - 1 (Kneser & Ney 1995, interpolated as in Chen &
    Goodman 1998). Every row begins anew behind start marks."""

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
        self._counts.append([gram for place in range(len(ids)) for gram in self._grams(ids, place)])

    def _grams(self, ids: Sequence[int], place: int) -> Iterator[tuple[int, ...]]:
        """The n-grams that end at a place, one of each order."""
        context = self._context(ids, place)
        for length in range(self.order):
            yield (*context[len(context) - length :], ids[place])

    def _context(self, ids: Sequence[int], place: int) -> Context:
        before = tuple(ids[max(0, place - self.order + 1) : place])
        return (_START,) * (self.order - 1 - len(before)) + before

    @property
    def discount(self) -> float:
        """What is taken off every count (see `_discount`)."""
        return self._built().estimator.discount

    def probability(self, word: int, context: Context) -> float:
        """How likely the token is behind a context; over the whole vocabulary they add up to 1."""
        return self._built().unmasked_score(word, context)

    def loss(self, ids: Sequence[int], labels: Sequence[int], ignored: int = -100) -> float:
        """The summed loss, in nats, of a row's labels behind the first position; what comes before is the context."""
        places = (place for place in range(1, len(ids)) if labels[place] != ignored)
        return -sum(log(self.probability(ids[place], self._context(ids, place))) for place in places)

    def _built(self) -> Any:
        if self._model is None:
            model: Any = InterpolatedLanguageModel(_Indexed, self.order, params={"size": self.vocabulary})
            model.counts.update(self._counts)
            model.estimator.index(self.order)
            self._model, self._counts = model, []
        return self._model


class _Indexed(KneserNey):
    """nltk's Kneser-Ney with continuation counts looked up instead of searched for, and a chance for unseen tokens.

    nltk goes through all contexts for every question, and gives a token that it never saw a probability of 0; here
    the discount of the lowest order is shared out among the whole vocabulary (Chen & Goodman 1998, equation 23).
    """

    def __init__(self, vocabulary: Any, counter: Any, size: int, **settings: Any) -> None:
        super().__init__(vocabulary, counter, order=0, **settings)
        self._size = size
        self._continuations: dict[Context, Counter[int]] = {}
        self._totals: dict[Context, int] = {}

    def index(self, order: int) -> None:
        """Look through all counts once, and choose the discount."""
        self._order, self.discount = order, _discount(self.counts[order])
        found: defaultdict[Context, Counter[int]] = defaultdict(Counter)
        for length in range(2, order + 1):
            for context, followers in self.counts[length].items():
                found[context[1:]].update(followers.keys())
        self._continuations = dict(found)
        self._totals = {context: counts.total() for context, counts in found.items()}

    def _continuation_counts(self, word: int, context: Context = ()) -> tuple[int, int]:
        """How many different tokens stand before `context` and `word`, and before `context` and any."""
        return self._continuations.get(context, _NOTHING)[word], self._totals.get(context, 0)

    def unigram_score(self, word: int) -> float:
        count, total = self._continuation_counts(word)
        shared = self.discount * len(self._continuations[()]) / total
        return max(count - self.discount, 0.0) / total + shared / self._size


def _discount(highest: Any) -> float:
    """n1 / (n1 + 2 n2) of how many n-grams of the highest order were seen once and twice (Ney, Essen & Kneser 1994)."""
    seen = Counter(count for followers in highest.values() for count in followers.values())
    once, twice = seen[1], seen[2]
    return min(once / (once + 2 * twice), _LARGEST_DISCOUNT) if once else _USUAL_DISCOUNT
