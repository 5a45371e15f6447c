"""Facts as pieces of the page: figures people can read, and no markup that came in as text."""

from dataclasses import dataclass

import pytest

from core.rows import ChatRow, Message, PairRow, PreferenceRow, TextRow
from core.words import say
from finetune.runs.events import RunProgress, fold
from ui.compare import board
from ui.data import preview
from ui.parts.views import duration, number, render, size
from ui.train.follow import thinned

MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}${8*8}`"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (3, "3"), (1234567, "1\u202f234\u202f567"), (0.00002, "2.0e-05"), (2.34567, "2.346"), (0.0, "0.000")],
)
def test_numbers_are_readable(value, shown):
    assert number(value) == shown


def test_sizes_and_times_are_readable():
    assert (size(512), size(93_000_000), size(2.5e9)) == ("512 B", "93.0 MB", "2.50 GB")
    assert (duration(7.6), duration(200), duration(7500), duration(None)) == ("8 s", "3 min 20 s", "2 h 05 min", "–")


@pytest.mark.parametrize(
    "row",
    [
        ChatRow(messages=[Message(role="user", content=MARKUP), Message(role="assistant", content=MARKUP)]),
        TextRow(text=MARKUP),
        PairRow(source=MARKUP, target=MARKUP),
        PreferenceRow(
            prompt=[Message(role="user", content=MARKUP)],
            chosen=[Message(role="assistant", content=MARKUP)],
            rejected=[Message(role="assistant", content=MARKUP)],
        ),
    ],
)
def test_rows_of_every_kind_are_shown_as_text(row):
    shown = render("bubbles", rows=[{"number": 1, "turns": list(preview.turns(row))}])
    assert "<img" not in shown and "<script" not in shown
    assert "&lt;img src=x" in shown and "{{7*7}}${8*8}" in shown


def test_notes_and_progress_are_shown_as_text():
    assert "<img" not in render("note", kind="ts-bad", title=MARKUP, text=MARKUP)


def test_long_curves_are_thinned_and_keep_their_ends():
    points = thinned(list(range(123_456)))
    assert len(points) == 1000 and points[0] == 0 and points[-1] == 123_455
    assert thinned([1, 2, 3]) == [1, 2, 3]


def test_the_presets_are_columns_that_can_run():
    from inference.strategies.table import parse_columns

    for key, lines in board.PRESETS.items():
        assert len(parse_columns(lines)) == len(lines)
        assert board.lines_of({"columns": board.columns_of(lines)}) == lines
        assert say(f"board.preset_{key}")


@pytest.mark.parametrize(
    "value", [None, [], {"columns": "greedy"}, {"columns": [1]}, {"columns": [{"strategy": "sample x=1"}]}, {}]
)
def test_what_is_no_board_is_refused_in_words(value):
    from core.errors import UserError

    with pytest.raises(UserError):
        board.lines_of(value)


def test_a_run_on_the_stand_in_says_so():
    started = {
        "device": "cpu",
        "dtype": "float32",
        "trainable": 1,
        "total": 2,
        "asked": "a/model",
        "base": "stand-in-1",
    }
    for stands_in in (True, False):
        progress = RunProgress(started={**started, "stand_in": stands_in})
        told = {"progress": progress, "error": None, "outcome": None, "reports": []}
        shown = render("run", run=Named("r1"), state="running", about="a run", **told)
        assert (say("run.stand_in", asked="a/model", base="stand-in-1") in shown) is stands_in


@dataclass
class Named:
    """All that the view asks of a run."""

    id: str


def test_a_job_of_another_version_that_tells_less_is_shown_all_the_same():
    told = [
        {"type": "started", "step": 0, "steps": 9},
        {"type": "train", "step": 1, "loss": 2.0, "tokens_per_s": None},
        {"type": "sample", "step": 1},
    ]
    progress = fold(told)
    html = render(
        "run", run=Named("r1"), about="tiny", state="running", progress=progress, error=None, outcome=None, reports=[]
    )
    assert "2.000" in html and "– · –" in html
    assert "ts-bubble" in render("samples", samples=progress.samples)
