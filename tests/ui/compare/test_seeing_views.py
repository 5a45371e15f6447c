"""The views below the board as facts and markup: what a model wrote stays text, columns keep number and color."""

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest

from core.errors import UserError
from core.workspace import Owner
from inference.compare.request import CompareRequest
from inference.events import Alternative, Branch, ColumnResult, Result, TokenView, Trace
from ui.compare import details
from ui.compare import details_facts as facts
from ui.compare.last_comparison import LastComparisons
from ui.parts.views import render
from ui.web.handler import Caller

MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}`"


def token(text, kept=None, entropy=1.0):
    return TokenView(text, abs(hash(text)) % 1000, 0.5, 1, entropy, (Alternative(text, 1, 0.5),), None, kept)


def column(name, *texts, trace=None, kept=None, error=None):
    tokens = [token(text, kept) for text in texts]
    metrics = {"first_token_s": 0.5, "tokens": len(tokens)}
    ids = [one.token_id for one in tokens]
    text = "".join(texts)
    return ColumnResult(name, "base", ids, text, "length", metrics, tokens, error, len(ids), trace or Trace())


def result(*columns):
    return Result("tiny", "float32", 5, 9, 1.0, 0.0, list(columns))


@pytest.fixture
def hostile():
    """Three columns in which every text is markup."""
    branches = (Branch(0, None, 1, MARKUP, -0.5, "live"), Branch(1, 0, 1, MARKUP, -1.0, "finished"))
    tree = Trace(((MARKUP, 7), ("temperature", None)), (1, 4), 4, branches, (0, 1), ((-1.0, (1, 1)),), (MARKUP,))
    return result(
        column(f"greedy banned={MARKUP}", "a", MARKUP, MARKUP),
        column("beam", "a", "b", MARKUP, trace=tree, kept=9),
        column("sample", error=MARKUP),
    )


def test_every_view_shows_markup_as_text(hostile):
    views = [one for one in details.show(hostile).values() if isinstance(one, str) and one]
    assert len(views) == 4
    for shown in views:
        assert "<img" not in shown and "<script" not in shown
        assert "&lt;img src=x" in shown


def test_verdicts_are_shown_as_text():
    @dataclass
    class Verdict:
        kind: str
        sentence: str

    named = facts.named(result(column(MARKUP, "a")))[0]
    shown = render("verdicts", verdicts=[(named, Verdict(kind, MARKUP)) for kind in ("identical", "wrong")])
    assert "<img" not in shown and shown.count("<li") == 2 and "✓" in shown and "✗" in shown


def test_a_comparison_fills_every_component_below_the_board(hostile):
    assert set(details.show(hostile)) == set(details.DetailViews.__dataclass_fields__)


def test_columns_are_told_apart_by_number_and_color():
    many = facts.named(result(*[column("greedy", "a")] * 12))
    assert [one.number for one in many] == list(range(1, 13))
    assert len({one.color for one in many}) == 12
    assert len(facts.named(result(column("greedy stop=" + "x" * 900, "a")))[0].name) <= facts.LONGEST_NAME


def test_colors_stand_out_from_white_and_from_dark():
    for color in facts.COLORS:
        assert contrast(color, "#ffffff") > 1.9 and contrast(color, "#0f172a") > 2.2, color


def contrast(one, other):
    """The ratio of WCAG 2."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color):
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_curves_are_those_of_the_chosen_columns():
    asked = result(column("greedy", "a", "b"), column("top_k", "a", "b", kept=100))
    assert facts.curves(asked, [0, 1], kept=False).to_dict("list") == {
        "token": [1, 2, 1, 2],
        "value": [1.0] * 4,
        "column": ["1", "1", "2", "2"],
    }
    kept = facts.curves(asked, [0, 1], kept=True)
    assert list(kept["column"]) == ["2", "2"] and math.isclose(kept["value"][0], 2.0)
    assert len(facts.curves(asked, [], kept=False)) == 0


@pytest.mark.parametrize(("count", "first"), [(1, [0]), (6, [0, 1, 2, 3, 4, 5]), (7, [0, 1, 2, 3])])
def test_where_curves_would_tangle_some_are_drawn_first(count, first):
    assert facts.drawn_first(result(*[column("greedy", "a")] * count)) == first


def test_long_curves_are_thinned():
    frame = facts.curves(result(column("greedy", *"ab" * 4000)), [0], kept=False)
    assert len(frame) == facts.POINTS and list(frame["token"])[-1] == 8000


def test_the_processors_stand_in_their_order_with_what_they_left():
    trace = Trace((("temperature", None), ("top_p", 1234)))
    shown = render("chain", **facts.chain_view(result(column("nucleus", "a", trace=trace))))
    places = [shown.index(text) for text in ("temperature", "removes no tokens", "top_p", "keeps 1\u202f234")]
    assert all(one < other for one, other in pairwise(places))


def test_the_table_has_a_row_a_column_and_a_sortable_header_a_measure(hostile):
    shown = render("summary", **facts.table_view(hostile))
    assert shown.count('scope="row"') == 3
    assert shown.count("aria-sort") == shown.count("data-tip") == 1 + len(facts.MEASURES)
    assert "arXiv:1904.09751" not in shown and all(measure.formula.split()[0] in shown for measure in facts.MEASURES)


def test_a_fork_within_a_character_marks_the_character():
    other = column("sample", "\ufffd", "\ufffd")
    other = ColumnResult(other.name, "base", [1, 2], "世", "length", {}, other.tokens)
    cards = facts.fork_view(result(column("greedy", "a"), other), 0)["cards"]
    assert (cards[1]["at"], cards[1]["rest"]) == ("世", "")


def test_one_column_has_no_forks_and_no_beams_have_no_tree():
    shown = " ".join(one for one in details.show(result(column("greedy", "a"))).values() if isinstance(one, str))
    assert "Add a second column" in shown and "Beam trees are drawn for" in shown


def test_the_rows_that_a_dynamic_beam_saves_are_told(hostile):
    shown = render("beam_tree", **facts.tree_view(hostile, 1, 0))
    assert "5 row-forwards instead of 5" in shown


@pytest.mark.parametrize(
    ("probability", "shown"), [(None, "–"), (0.324, "32 %"), (0.0123, "1.2 %"), (1e-9, "< 0.001 %"), (1.0, "100 %")]
)
def test_probabilities_are_readable(probability, shown):
    assert facts.percent(probability) == shown


@pytest.mark.parametrize("value", [None, "0", True, -1, 2, 1.0, [0], MARKUP])
def test_a_choice_that_is_none_of_the_comparisons_is_refused(value):
    with pytest.raises(UserError):
        details._among(value, range(2))


def caller(name):
    return Caller(Owner("local"), "en", name)


def test_each_tab_sees_its_own_last_comparison():
    kept, asked = LastComparisons(), CompareRequest("tiny", ["greedy"], "a")
    for name in ("one", "two", "one"):
        kept.keep(caller(name), asked, result(column(name, "a")))
    assert kept.of(caller("one")).result.columns[0].name == "one"
    assert kept.find(caller("three")) is None
    with pytest.raises(UserError, match="Press Compare again"):
        kept.of(caller("three"))


def test_old_comparisons_make_room_and_the_newest_always_has_it():
    kept, asked = LastComparisons(most=2, most_parts=10), CompareRequest("tiny", ["greedy"], "a")
    for name in ("one", "two", "three"):
        kept.keep(caller(name), asked, result(column(name, "a")))
    assert kept.find(caller("one")) is None and kept.find(caller("two"))
    kept.keep(caller("four"), asked, result(column("four", *"abcdefghijklm")))
    assert kept.find(caller("three")) is None and kept.find(caller("four"))
