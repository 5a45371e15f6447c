"""Beam sampling, the other draws and penalties write what `model.generate` writes; and the order of temperature."""

import math

import pytest
import torch

from tests.tiny import references as slow
from tests.tiny.decoding import load_tiny, run

pytestmark = pytest.mark.matrix

ENDS = [31, 54, 71, 125, 182]
PROMPTS = ["hello", "the quick brown fox", "tea, tea 茶, tea, tea 茶, tea,"]
LIMIT = 16


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load_tiny(tiny_model, end_ids=ENDS)


def _ids(loaded, prompt):
    return loaded.tokenizer(prompt)["input_ids"]


BEAM_SAMPLES = {
    "beam_sample": {},
    "beam_sample num_beams=2 temperature=0.7": {"num_beams": 2, "temperature": 0.7},
    "beam_sample num_beams=5 top_k=20 length_penalty=2": {"num_beams": 5, "top_k": 20, "length_penalty": 2.0},
    "beam_sample num_beams=3 top_p=0.8 early_stopping=true": {"num_beams": 3, "top_p": 0.8, "early_stopping": True},
    "beam_sample num_beams=8 top_k=2": {"num_beams": 8, "top_k": 2},
    "beam_sample min_p=0.05 typical_p=0.9 repetition_penalty=1.3": {
        "min_p": 0.05,
        "typical_p": 0.9,
        "repetition_penalty": 1.3,
    },
}


def _generated(loaded, prompt, seed, limit=LIMIT, **knobs):
    from inference.compare.replay import neutral, neutral_config

    config = neutral_config(loaded.model, limit)
    for name, value in ({"do_sample": True, "num_beams": 4} | knobs).items():
        setattr(config, name, value)
    ids = torch.tensor([prompt])
    with neutral(loaded.model), torch.no_grad():
        torch.manual_seed(seed)
        out = loaded.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("seed", [0, 3, 99])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_beam_sampling_equals_generate(loaded, prompt, seed):
    lines = list(BEAM_SAMPLES)
    for order in (lines, lines[::-1]):
        for column in run(loaded, prompt, order, seed=seed, max_new_tokens=LIMIT).columns:
            expected = _generated(loaded, _ids(loaded, prompt), seed, **BEAM_SAMPLES[column.name])
            assert column.token_ids == expected, column.name


GENERATED = {
    "epsilon": {"epsilon_cutoff": 3e-4},
    "epsilon epsilon_cutoff=0.02": {"epsilon_cutoff": 0.02},
    "eta eta_cutoff=0.01": {"eta_cutoff": 0.01},
    "top_h": {"top_h": 0.4},
    "top_h top_h=0.8 temperature=1.5": {"top_h": 0.8, "temperature": 1.5},
    "sample top_k=30 top_p=0.7 min_p=0.02 typical_p=0.8": {
        "top_k": 30,
        "top_p": 0.7,
        "min_p": 0.02,
        "typical_p": 0.8,
    },
    "sample repetition_penalty=1.4 no_repeat_ngram_size=2": {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2},
}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_other_draws_equal_generate(loaded, prompt):
    for seed in (0, 5, 42):
        for column in run(loaded, prompt, list(GENERATED), seed=seed, max_new_tokens=LIMIT).columns:
            knobs = {"num_beams": 1, **GENERATED[column.name]}
            assert column.token_ids == _generated(loaded, _ids(loaded, prompt), seed, **knobs), column.name


def test_penalties_on_beams_equal_generate(loaded):
    lines = {
        "beam repetition_penalty=1.5": {"repetition_penalty": 1.5},
        "beam no_repeat_ngram_size=2 num_beams=3": {"no_repeat_ngram_size": 2, "num_beams": 3},
    }
    for prompt in PROMPTS:
        for column in run(loaded, prompt, list(lines), max_new_tokens=LIMIT).columns:
            knobs = {"do_sample": False, **lines[column.name]}
            assert column.token_ids == _generated(loaded, _ids(loaded, prompt), 0, **knobs), column.name


def test_the_classic_example_of_the_order_of_temperature():
    """Scores 3, 2, 1, top_p 0.8 and temperature 0.5: two tokens are left where the temperature comes last, else one."""
    from inference.columns.base import ColumnContext
    from inference.columns.chain import chain_of
    from inference.columns.samplers import Noise
    from inference.strategies.table import parse_column

    context = ColumnContext(frozenset(), 5, Noise(0, torch.device("cpu")))
    left = {}
    for last in ("false", "true"):
        chain = chain_of(parse_column(f"nucleus top_p=0.8 temperature=0.5 temperature_last={last}"), context)
        scores = chain(torch.tensor([[3.0, 2.0, 1.0]]), [[]])
        left[last] = (scores[0] > -math.inf).nonzero()[:, 0].tolist(), scores[0, 0].item(), chain.kept_counts()
    assert left["false"] == ([0], 6.0, (("temperature", None), ("top_p", 1)))
    assert left["true"] == ([0, 1], 6.0, (("top_p", 2), ("temperature", None)))


def test_the_order_of_temperature_matters_in_a_text(loaded):
    """The filters then see the model's own probabilities: the reference draws from what they leave, sharpened."""

    def last(scores, *_):
        probabilities = slow.softmax(scores).tolist()
        order = sorted(range(len(scores)), key=lambda token: -probabilities[token])
        kept, mass = set(), 0.0
        for token in order:
            if mass >= 0.8:
                break
            kept.add(token)
            mass += probabilities[token]
        return [score / 0.5 if token in kept else -math.inf for token, score in enumerate(scores)]

    lines = ["nucleus top_p=0.8 temperature=0.5 temperature_last=true", "nucleus top_p=0.8 temperature=0.5"]
    texts = [run(loaded, prompt, lines, seed=4, max_new_tokens=LIMIT).columns for prompt in PROMPTS]
    model = slow.Model(loaded.model, ENDS, LIMIT)
    assert [columns[0].token_ids for columns in texts] == [slow.drawn(model, _ids(loaded, p), 4, last) for p in PROMPTS]
    assert any(first.token_ids != second.token_ids for first, second in texts)
