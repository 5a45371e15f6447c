"""The colours of the token view: readable, and told apart without telling hues apart."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

CSS = (Path(__file__).parents[4] / "ui" / "static" / "page.css").read_text(encoding="utf-8")


def luminance(colour):
    """Relative luminance of `#rgb` or `#rrggbb` (WCAG 2.2)."""
    digits = colour.lstrip("#")
    pairs = [digit * 2 for digit in digits] if len(digits) == 3 else [digits[place : place + 2] for place in (0, 2, 4)]
    shares = [int(pair, 16) / 255 for pair in pairs]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def steps(theme):
    """Background and text of the five coloured steps, from expected to surprising."""
    found = re.findall(rf"^{theme}\.ts-s(\d) \{{ background: (#\w+); color: (#\w+); \}}$", CSS, re.MULTILINE)
    assert [step for step, _, _ in found] == ["1", "2", "3", "4", "5"]
    return [(background, text) for _, background, text in found]


@pytest.mark.parametrize("theme", ["", r"\.dark "])
def test_text_on_every_step_has_the_contrast_of_wcag_aa(theme):
    for background, text in steps(theme):
        dark, light = sorted((luminance(background), luminance(text)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, background


@pytest.mark.parametrize(("theme", "sign"), [("", -1), (r"\.dark ", 1)])
def test_the_steps_go_one_way_in_brightness_away_from_the_page(theme, sign):
    bright = [luminance(background) for background, _ in steps(theme)]
    assert bright == sorted(bright, reverse=sign < 0)
    assert all((max(pair) + 0.05) / (min(pair) + 0.05) >= 1.2 for pair in pairwise(bright)), (
        "neighbours differ for who sees no hues"
    )
