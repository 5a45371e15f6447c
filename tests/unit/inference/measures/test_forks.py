"""Where columns part, and how far apart they are: against the plain table, and on columns made by hand."""

import random

import pytest

from inference.events import Alternative, ColumnResult, TokenView
from inference.measures.divergence import Pair, Taken, common_prefix, edit_distance, forks, pairs, pieces, shared


def token(text, probability=0.5, top=(), token_id=None):
    likely = tuple(Alternative(other, ord(other[0]), share) for other, share in top)
    return TokenView(text, ord(text[0]) if token_id is None else token_id, probability, 1, 1.0, likely)


def column(text, model="base"):
    tokens = [token(letter) for letter in text]
    return ColumnResult("greedy", model, [one.token_id for one in tokens], text, "length", {}, tokens)


def table_distance(one, other):
    """Wagner & Fischer's table, a row at a time."""
    row = list(range(len(other) + 1))
    for place, symbol in enumerate(one, 1):
        before, row[0] = row[0], place
        for at, letter in enumerate(other, 1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (symbol != letter))
    return row[-1]


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("abc", "abc", 0), ("abc", "xyz", 3), ("abc", "abcd", 1)],
)
def test_the_edit_distance_of_small_words_is_right(one, other, distance):
    assert edit_distance(one, other) == edit_distance(other, one) == distance


def test_the_edit_distance_is_that_of_the_plain_table():
    chance = random.Random(7)
    for _ in range(400):
        one, other = ([chance.randrange(4) for _ in range(chance.randrange(90))] for _ in range(2))
        assert edit_distance(one, other) == table_distance(one, other), (one, other)


def test_the_common_prefix_ends_where_one_of_them_ends():
    assert (common_prefix("abc", "abd"), common_prefix("ab", "abc"), common_prefix("", "a")) == (2, 2, 0)


def test_a_fork_has_both_tokens_with_their_probabilities_under_both_models():
    base, tuned = column("tea?"), column("tea!", "tuned")
    base.tokens[3] = token("?", 0.6, [("?", 0.6), ("!", 0.1)])
    tuned.tokens[3] = token("!", 0.7, [("!", 0.7), (".", 0.2)])
    fork = forks([base, tuned], 0)[1]
    assert (fork.common, fork.distance) == (3, 1)
    assert fork.here == Taken("!", 0.7, 0.1)
    assert fork.there == Taken("?", 0.6, None)


def test_one_model_gives_a_token_one_probability_behind_the_same_beginning():
    first, second = column("ab"), column("ac")
    second.tokens[1] = token("c", 0.01)
    assert forks([first, second])[1].here == Taken("c", 0.01, 0.01)


def test_a_column_that_ended_before_the_other_has_no_token_at_the_fork():
    fork = forks([column("abc"), column("ab")], 0)[1]
    assert (fork.common, fork.distance, fork.here, fork.there.text) == (2, 1, None, "c")


def test_the_reference_can_be_any_column_and_has_no_fork_itself():
    columns = [column("abcd"), column("abxx"), column("a")]
    assert [(fork.common, fork.distance) for fork in forks(columns, 1)] == [(2, 2), (4, 0), (1, 3)]
    assert forks(columns, 1)[1].here is None and forks(columns, 1)[1].there is None


def test_all_pairs_are_told_with_fork_and_distance():
    columns = [column("abcd"), column("abxx"), column("a")]
    assert pairs(columns) == [Pair(0, 1, 2, 2), Pair(0, 2, 1, 3), Pair(1, 2, 1, 3)]


def test_columns_that_wrote_nothing_do_not_hide_what_the_others_share():
    assert shared([column("abcd"), column(""), column("abxx")]) == 2
    assert shared([column("")]) == shared([]) == 0


def test_models_with_other_vocabularies_are_compared_by_text():
    one, other = column("ab"), column("ab", "someone/else")
    other.tokens[0] = token("a", token_id=9999)
    assert forks([one, other])[1].common == 2
    other = column("ab", "tuned")
    other.tokens[0] = token("a", token_id=9999)
    assert forks([one, other])[1].common == 0


def spread(text, *tokens):
    views = [TokenView(one, place, 0.5, 1, 1.0, ()) for place, one in enumerate(tokens)]
    return ColumnResult("greedy", "base", list(range(len(tokens))), text, "length", {}, views)


def test_the_pieces_of_a_column_make_up_its_text():
    column = spread("a 世界 b", "a", " ", "\ufffd", "\ufffd", "\ufffd", " b")
    assert pieces(column) == ["a", " ", "", "", "世界", " b"]
    assert pieces(spread("good 🫖", "good", " \ufffd", "\ufffd")) == ["good", "", " 🫖"]


def test_an_end_token_keeps_its_own_text():
    assert pieces(spread("hi", "hi", "<|im_end|>")) == ["hi", "<|im_end|>"]
