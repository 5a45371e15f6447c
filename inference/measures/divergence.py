"""Where columns diverge: their common prefix, the first token that differs, and the edit distance between them."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from inference.events import ColumnResult, TokenView

UNFINISHED = "\ufffd"


@dataclass(frozen=True)
class Taken:
    """The token that a column took where it diverges. `probability` is that under its own model (temperature 1, before
    any processor), `elsewhere` that under the other column's model, None if it is not among its likeliest."""

    text: str
    probability: float
    elsewhere: float | None


@dataclass(frozen=True)
class Fork:
    """How a column diverges from the reference: after `common` tokens it took `here`, the reference `there` (None if
    one of them had ended). `distance` is the edit distance in tokens; without a difference it is 0 and both are
    None."""

    column: int
    common: int
    distance: int
    here: Taken | None
    there: Taken | None


@dataclass(frozen=True)
class Pair:
    """Two columns: the length of their common prefix, and their edit distance, in tokens."""

    first: int
    second: int
    common: int
    distance: int


def forks(columns: Sequence[ColumnResult], reference: int = 0) -> list[Fork]:
    """Return where every column diverges from the column `reference`, which itself has no difference."""
    return [_fork(columns, index, reference) for index in range(len(columns))]


def pairs(columns: Sequence[ColumnResult]) -> list[Pair]:
    """Return all pairs of columns, the first before the second."""
    count = len(columns)
    return [_pair(columns, first, second) for first in range(count) for second in range(first + 1, count)]


def shared(columns: Sequence[ColumnResult]) -> int:
    """Return the length of the common prefix of all columns that generated anything, in tokens."""
    written = [column for column in columns if column.tokens]
    return min((common_prefix(*_symbols(written[0], column)) for column in written), default=0)


def _fork(columns: Sequence[ColumnResult], index: int, reference: int) -> Fork:
    column, reference_column = columns[index], columns[reference]
    pair = _pair(columns, index, reference)
    here, there = _at(column, pair.common), _at(reference_column, pair.common)
    same = column.model == reference_column.model
    return Fork(index, pair.common, pair.distance, _taken(here, there, same), _taken(there, here, same))


def _pair(columns: Sequence[ColumnResult], first: int, second: int) -> Pair:
    symbols = _symbols(columns[first], columns[second])
    return Pair(first, second, common_prefix(*symbols), edit_distance(*symbols))


def _at(column: ColumnResult, index: int) -> TokenView | None:
    return column.tokens[index] if index < len(column.tokens) else None


def _taken(token: TokenView | None, counterpart: TokenView | None, same: bool) -> Taken | None:
    """Return what was taken at the first difference. One model gives a token the same probability after the same
    prefix."""
    if token is None:
        return None
    if same:
        return Taken(token.text, token.probability, token.probability)
    found = [
        alternative.probability
        for alternative in (counterpart.top if counterpart else ())
        if alternative.text == token.text
    ]
    return Taken(token.text, token.probability, found[0] if found else None)


def _symbols(first: ColumnResult, second: ColumnResult) -> tuple[list[Hashable], list[Hashable]]:
    """Return what is compared: ids, or texts if the columns' models may have different vocabularies."""
    own = {"base", "tuned"}
    if first.model == second.model or {first.model, second.model} <= own:
        return [token.token_id for token in first.tokens], [token.token_id for token in second.tokens]
    return [token.text for token in first.tokens], [token.text for token in second.tokens]


def common_prefix(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Return how many leading elements both have in common."""
    found = (index for index, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1])
    return next(found, min(len(first), len(second)))


def edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Return the least number of insertions, deletions and replacements that turn one into the other (Levenshtein
    1966).

    A column of the table at a time, as bits of integers (Hyyrö 2003, "A bit-vector algorithm for computing Levenshtein
    and Damerau edit distances", after Myers 1999): 8,192 tokens take about a tenth of a second.
    """
    start = common_prefix(first, second)
    first, second = first[start:], second[start:]
    if not first or not second:
        return max(len(first), len(second))
    occurrences: dict[Hashable, int] = {}
    for index, symbol in enumerate(first):
        occurrences[symbol] = occurrences.get(symbol, 0) | 1 << index
    everywhere, last = (1 << len(first)) - 1, 1 << (len(first) - 1)
    more, less, distance = everywhere, 0, len(first)
    for symbol in second:
        equal = occurrences.get(symbol, 0)
        diagonal = (((equal & more) + more) ^ more) | equal | less
        up = less | (~(diagonal | more) & everywhere)
        down = more & diagonal
        distance += 1 if up & last else -1 if down & last else 0
        up = (up << 1 | 1) & everywhere
        more = ((down << 1) & everywhere) | (~(diagonal | up) & everywhere)
        less = up & diagonal
    return distance


def pieces(column: ColumnResult) -> list[str]:
    """Return the text of each token, such that they make up the column's text; tokens that are not part of it keep
    theirs. A character spread over several tokens belongs to the last of them."""
    found, at, held = [token.text for token in column.tokens], 0, 0
    for index, token in enumerate(column.tokens):
        if UNFINISHED in token.text:
            found[index], held = "", held + 1
            continue
        here = column.text.find(token.text, at + 1 if held else at) if token.text else at
        if held and here >= at:
            found[index - 1], at, held = column.text[at:here], here, 0
        if token.text and column.text.startswith(token.text, at):
            at += len(token.text)
    if held and found:
        found[-1] = column.text[at:]
    return found
