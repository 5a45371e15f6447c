"""A sampler is added by an entry in the table, a function, its words and a row in `HELD`: everything else follows."""

from dataclasses import replace

import pytest
import torch
from transformers import EpsilonLogitsWarper

from core.words import LOCALES, catalogue
from inference.columns import samplers
from inference.columns.base import ColumnContext
from inference.columns.chain import chain_of
from inference.compare.replay import comparable, generate_alone
from inference.models.generation_config import settings_line
from inference.strategies import docs_page, table
from inference.strategies.knobs import Knob
from inference.strategies.table import parse_column
from tests.tiny.decoding import load_tiny, run

SCORES = torch.tensor([[4.0, 3.0, 1.0, 2.5, -2.0]])


@pytest.fixture
def add(monkeypatch):
    """Adds a strategy of a new knob, as docs/extend.md says."""

    def added(knob, default, function):
        name = knob.name
        monkeypatch.setattr(table, "FILTERS", (*table.FILTERS, knob))
        monkeypatch.setitem(table.STRATEGIES, name, table._draw(name, "nobody", replace(knob, default=default)))
        monkeypatch.setitem(samplers.FILTERS, name, function)
        for locale in LOCALES:
            for key in ("strategy", "about", "knob"):
                monkeypatch.setitem(catalogue(locale), f"decode.{key}.{name}", f"{key} of {name}")
        monkeypatch.setitem(docs_page.HELD, name, ("nothing", "test_added_sampler.py"))

    return added


@pytest.fixture
def margin(add):
    """Keeps tokens whose score is within `margin` of the highest one; `generate` has nothing like it."""

    def within(scores, width):
        return scores.masked_fill(scores < scores.amax(-1, keepdim=True) - width, float("-inf"))

    add(Knob("margin", "float", 0.0, 0.0, 50.0, neutral=0.0), 1.25, samplers.Filter(within))


@pytest.fixture
def smallest(add):
    """A sampler that `generate` has, too, under another name."""
    knob = Knob("smallest", "float", 0.0, 0.0, 0.5, neutral=0.0, generate_name="epsilon_cutoff")
    warper = samplers.Filter(of_rows=lambda value, keep: EpsilonLogitsWarper(value, min_tokens_to_keep=keep))
    add(knob, 0.02, warper)


def _chain(line):
    noise = samplers.Noise(0, torch.device("cpu"))
    return chain_of(parse_column(line), ColumnContext(frozenset({0}), 5, noise, [1]))


def test_its_line_is_read_and_its_function_called_at_its_place(margin):
    assert parse_column("margin").knobs == {"margin": 1.25, "temperature": 1.0}
    chain = _chain("margin temperature=0.5 top_k=4 xtc_probability=0.5")
    left = chain(SCORES, [[1]])
    assert [name for name, _ in chain.kept_counts()] == ["temperature", "top_k", "margin", "xtc"]
    assert dict(chain.kept_counts())["margin"] == 1 and int((left > float("-inf")).sum()) == 1
    chain = _chain("margin margin=2")
    assert (chain(SCORES, [[1]]) > float("-inf")).tolist() == [[True, True, False, True, False]]


def test_its_neutral_value_is_no_processor(margin):
    assert _chain("margin margin=0").processors == []


def test_it_writes_and_is_replayed_only_where_it_changes_nothing(margin, tiny_model):
    loaded = load_tiny(tiny_model)
    narrow, greedy, off, plain = (
        column.token_ids
        for column in run(
            loaded, "hello", ["margin margin=0.000001", "greedy", "margin margin=0", "sample"], seed=3, max_new_tokens=8
        ).columns
    )
    assert narrow == greedy and off == plain != greedy
    assert not comparable(parse_column("margin")) and comparable(parse_column("margin margin=0"))
    prompt = loaded.tokenizer("hello")["input_ids"]
    output = generate_alone(loaded, prompt, parse_column("margin margin=0"), seed=3, max_new_tokens=8)
    assert output[0, len(prompt) :].tolist() == off


def test_one_that_generate_has_is_replayed_under_its_name_there(smallest, tiny_model):
    loaded, spec = load_tiny(tiny_model), parse_column("smallest smallest=0.01 temperature=0.7")
    assert comparable(spec)
    prompt = loaded.tokenizer("hello")["input_ids"]
    drawn, plain = run(loaded, "hello", [spec.name, "sample temperature=0.7"], seed=5, max_new_tokens=12).columns
    output = generate_alone(loaded, prompt, spec, seed=5, max_new_tokens=12)
    assert output[0, len(prompt) :].tolist() == drawn.token_ids != plain.token_ids


def test_the_settings_of_a_model_name_it(add):
    """Here a name that no other knob has, so that only the new strategy can be meant."""
    knob = Knob("smallest", "float", 0.0, 0.0, 0.5, neutral=0.0, generate_name="smallest_share")
    add(knob, 0.02, samplers.Filter(lambda scores, value: scores))
    assert settings_line({"do_sample": True, "top_k": 0, "smallest_share": 0.1}).startswith("smallest smallest=0.1")
    assert settings_line({"do_sample": True, "top_k": 0, "smallest_share": 0.0}) == "sample"


def test_the_page_of_strategies_has_it(margin):
    page = docs_page.page()
    assert "| `margin` | **strategy of margin.** about of margin | `margin` 1.25 (0 to 50)" in page
    assert "`eta_cutoff`, `margin`, `xtc`" in page and "| `margin` | 0 to 50 | `margin` | knob of margin |" in page


def test_every_filter_of_the_table_has_its_function_and_no_other():
    assert [knob.name for knob in table.FILTERS] == list(samplers.FILTERS)


def test_one_name_has_one_meaning_in_all_strategies():
    """Strategies differ in a knob's default and bounds alone."""
    for strategy in table.STRATEGIES.values():
        for knob in (*strategy.knobs, *strategy.more):
            known = table.known_knobs()[knob.name]
            same = ("neutral", "generate_name", "belongs_to", "type", "choices")
            assert [getattr(knob, name) for name in same] == [getattr(known, name) for name in same], knob.name
            assert knob not in strategy.more or knob.neutral in (None, knob.default), knob.name
