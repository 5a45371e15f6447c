"""What holds of the configuration as a whole."""

import pytest

from core.errors import UserError
from core.words import LOCALES, catalogue
from finetune.config.docs_page import table
from finetune.config.run_config import knobs, stage_knobs, validate
from finetune.methods import METHODS
from finetune.objectives import OBJECTIVES
from tests.rules.source import ROOT

STAGES = [{"objective": "sft", "data": [{"dataset": "ab" * 32}]}]


def test_at_most_forty_knobs_show_and_eight_of_them_are_basic():
    for method in METHODS:
        shown = [knob for knob in knobs() if knob.shown_when is None or method in knob.shown_when[1]]
        assert len(shown) <= 40
        assert sum(knob.tier == "basic" for knob in shown) <= 8


def test_every_setting_of_an_objective_is_a_knob_with_its_words_and_bounds():
    found = stage_knobs()
    assert found[0].path == "stages.objective" and set(found[0].choices) == set(OBJECTIVES)
    assert {knob.shown_when[1][0] for knob in found[1:]} == set(OBJECTIVES)
    for knob in found:
        assert knob.path.split(".")[1] in ("objective", *OBJECTIVES)
        assert all(key in catalogue(locale) for key in (knob.label, knob.help) for locale in LOCALES)
        assert knob.type not in ("integer", "number") or None not in (knob.minimum, knob.maximum)
    assert all(f"config.objective.{name}" in catalogue(locale) for name in OBJECTIVES for locale in LOCALES)


def test_the_page_of_knobs_is_what_the_config_says():
    assert (ROOT / "docs" / "knobs.md").read_text(encoding="utf-8") == table()


def test_the_help_of_an_optional_number_says_what_empty_means_and_auto_is_a_computed_value():
    optional = [knob for knob in knobs() if knob.optional and knob.type in ("integer", "number")]
    helps = {knob.path: catalogue("en")[knob.help] for knob in optional}
    assert {path for path, text in helps.items() if "(empty: " not in text} == set()
    off = ("all rows", "no limit", "none", "never")
    turned_off = {path for path, text in helps.items() if text.split("(empty: ")[1].startswith(off)}
    assert turned_off == {knob.path for knob in optional if not knob.auto}


def test_no_knob_is_a_secret():
    words = ("token", "secret", "password", "key", "credential")
    secret = [knob.path for knob in knobs() if any(word in knob.path.split(".")[-1].split("_") for word in words)]
    assert secret == []


@pytest.mark.parametrize(
    "raw",
    [
        {"token": "hf_" + "x" * 34},
        {"hub_token": "x"},
        {"model": "hf_" + "x" * 34},
        {"compute": {"device": "hf_" + "x" * 34}},
        {"watch": {"samples": ["use hf_" + "x" * 34]}},
    ],
)
def test_a_secret_in_a_config_is_refused_and_not_repeated(raw):
    with pytest.raises(UserError) as caught:
        validate({"stages": STAGES, **raw})
    assert "x" * 34 not in str(caught.value)
