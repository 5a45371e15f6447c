"""The picture of a beam tree: nothing overlaps, everything goes to the right, large trees come in parts."""

import itertools
import random

import pytest

from inference.events import Branch, Trace
from ui.compare.beam_tree import BOX, LEFT, ROW, STEP, TALL, parts, picture, short


def grown(beams=8, steps=64, seed=0):
    """A tree as a beam search makes it: at each step `beams` live, some finished, as many pruned."""
    chance = random.Random(seed)
    branches, live = [], [None]
    for step in range(steps):
        children = []
        for state in ["live"] * beams + ["finished"] * chance.randrange(3) + ["pruned"] * beams:
            parent = chance.choice(live)
            score = (0.0 if parent is None else branches[parent].score) - chance.random()
            branches.append(Branch(step, parent, chance.randrange(99), " word", score, state))
            children += [len(branches) - 1] if state == "live" else []
        live = children
    best, at = [], live[0]
    while at is not None:
        best.append(at)
        at = branches[at].parent
    return Trace(branches=tuple(branches), best=tuple(reversed(best)))


@pytest.fixture
def trace():
    return grown()


def test_no_two_boxes_overlap(trace):
    boxes = picture(trace, 0, 64).boxes
    assert len(boxes) == len(trace.branches)
    assert len({(box.x, box.y) for box in boxes}) == len(boxes)
    assert STEP > BOX and ROW > TALL
    assert all((box.x - LEFT) % STEP == 0 and (box.y - boxes[0].y) % ROW == 0 for box in boxes)


def test_every_line_goes_one_step_to_the_right(trace):
    drawn = picture(trace, 0, 64)
    boxes = {box.index: box for box in drawn.boxes}
    assert len(drawn.edges) == sum(branch.parent is not None for branch in trace.branches)
    assert all(edge.x2 - edge.x1 == STEP - BOX for edge in drawn.edges)
    assert all(box.x - boxes[box.parent].x == STEP for box in drawn.boxes if box.parent is not None)


def test_everything_lies_within_the_picture(trace):
    drawn = picture(trace, 0, 64)
    assert max(box.x + BOX for box in drawn.boxes) <= drawn.width
    assert max(box.y + TALL for box in drawn.boxes) <= drawn.height


def test_the_results_path_runs_straight_along_the_top(trace):
    path = [box for box in picture(trace, 0, 64).boxes if box.on_path]
    assert [box.index for box in path] == list(trace.best)
    assert {box.row for box in path} == {0}
    assert sum(edge.on_path for edge in picture(trace, 0, 64).edges) == 63


def test_families_keep_their_order_so_that_lines_do_not_cross(trace):
    edges = picture(trace, 0, 64).edges
    for step in {edge.x1 for edge in edges}:
        here = sorted((edge.y1, edge.y2) for edge in edges if edge.x1 == step)
        assert [end for _, end in here] == sorted(end for _, end in here)


def test_a_large_tree_comes_in_parts_that_cover_it_once():
    trace = grown(steps=300)
    found = parts(trace, most=1000)
    assert len(found) > 3 and found[0][0] == 0 and found[-1][1] == 300
    assert all(one[1] == other[0] for one, other in itertools.pairwise(found))
    drawn = [picture(trace, *part) for part in found]
    assert sum(len(part.boxes) for part in drawn) == len(trace.branches)
    assert all(len(part.boxes) <= 1000 for part in drawn)
    assert drawn[1].ticks[0][0] == found[1][0] + 1


def test_a_column_without_a_tree_has_no_parts():
    assert parts(Trace()) == []


def test_rows_saved_are_those_of_the_fixed_beam_less_the_ones_that_ran():
    assert Trace(widths=(1, 8, 3, 2), fixed_width=8).row_forwards == (14, 25)
    assert Trace(widths=(1, 1, 1, 4), fixed_width=8, given=2).row_forwards == (7, 11)
    assert Trace(fixed_width=8).row_forwards is None


def test_widths_are_bars_under_the_tree():
    trace = grown(beams=2, steps=3)
    drawn = picture(Trace(widths=(1, 2, 2), fixed_width=4, branches=trace.branches), 0, 3)
    assert [bar.rows for bar in drawn.bars] == [1, 2, 2]
    lowest = max(box.y + TALL for box in drawn.boxes)
    assert all(bar.y > lowest and bar.y + bar.height <= drawn.height for bar in drawn.bars)
    assert drawn.bars[1].height == 2 * drawn.bars[0].height


@pytest.mark.parametrize(
    ("text", "shown"), [(" tea", "·tea"), ("\n\n", "⏎⏎"), ("extraordinarily", "extraord…"), ("世界世界世界", "世界世…")]
)
def test_a_token_is_cut_to_its_box(text, shown):
    assert short(text) == shown
