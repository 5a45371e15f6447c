"""A column's processors: their order, what they tell, and what adds none."""

import math

import pytest
import torch

from inference.columns.base import ColumnContext
from inference.columns.chain import chain_of
from inference.columns.penalties import dry, frequency, presence, repetitions
from inference.columns.samplers import Mirostat, Noise, Xtc, top_n_sigma
from inference.strategies.table import STRATEGIES, parse_column

EVERYTHING = {
    "repetition_penalty": 1.2,
    "no_repeat_ngram_size": 2,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "dry_multiplier": 0.5,
    "temperature": 0.7,
    "top_n_sigma": 2.0,
    "top_h": 0.9,
    "top_k": 50,
    "top_p": 0.95,
    "min_p": 0.01,
    "typical_p": 0.95,
    "epsilon_cutoff": 0.0001,
    "eta_cutoff": 0.0001,
    "xtc_probability": 1.0,
}
PENALTIES = ["repetition_penalty", "no_repeat_ngram_size", "banned", "presence_penalty", "frequency_penalty", "dry"]
CUTS = ["top_n_sigma", "top_h", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "xtc"]


def _context(**more):
    return ColumnContext(frozenset({0}), 5, Noise(0, torch.device("cpu")), prompt_ids=[5, 6], **more)


def _chain(line, **more):
    return chain_of(parse_column(line), _context(**more))


def _names(chain):
    return [name for name, _ in chain.kept_counts()]


def _line(key, **knobs):
    return " ".join([key, *(f"{name}={value}" for name, value in knobs.items())])


def test_the_order_is_the_documented_one():
    line = _line("sample", **EVERYTHING)
    assert _names(_chain(line, banned=[[7]])) == [*PENALTIES, "temperature", *CUTS]
    assert _names(_chain(f"{line} temperature_last=true", banned=[[7]])) == [*PENALTIES, *CUTS, "temperature"]
    assert _names(_chain("mirostat temperature=0.5 presence_penalty=1")) == [
        "presence_penalty",
        "temperature",
        "mirostat",
    ]


def test_the_order_of_a_line_makes_no_difference():
    backwards = _line("sample", **dict(reversed(EVERYTHING.items())))
    assert _names(_chain(backwards)) == _names(_chain(_line("sample", **EVERYTHING)))


def test_only_what_draws_is_warped():
    for key, strategy in STRATEGIES.items():
        spec = parse_column(_line(key, repetition_penalty=2, presence_penalty=1))
        names = _names(chain_of(spec, _context()))
        assert names[:2] == ["repetition_penalty", "presence_penalty"]
        assert bool(names[2:]) == (strategy.kind == "sample" and key != "sample"), key


@pytest.mark.parametrize("key", [key for key, one in STRATEGIES.items() if one.kind == "sample"])
def test_a_neutral_value_adds_no_link(key):
    strategy = STRATEGIES[key]
    own = {knob.name for knob in strategy.knobs} - {"temperature"}
    neutral = {
        knob.name: knob.default
        for knob in (*strategy.more, strategy.knob("temperature"))
        if knob.type in ("int", "float") and knob.default != "" and knob.name not in ("top_h", "temperature_last")
    }
    assert _names(_chain(_line(key, **neutral))) == _names(_chain(key))
    assert len(_names(_chain(key))) == (1 if own else 0)


def test_the_neutral_values_of_a_strategys_own_knobs_add_none():
    for line in ("top_n_sigma top_n_sigma=0", "min_p min_p=0", "nucleus top_p=1", "typical typical_p=1"):
        assert _names(_chain(line)) == []
    for line in ("epsilon epsilon_cutoff=0", "eta eta_cutoff=0", "dry dry_multiplier=0", "xtc xtc_probability=0"):
        assert _names(_chain(line)) == []


def test_told_counts_what_each_left_of_the_first_row():
    chain = _chain("sample top_k=4 top_p=0.8 no_repeat_ngram_size=1 temperature=0.5")
    assert chain.kept_counts() == (
        ("no_repeat_ngram_size", None),
        ("temperature", None),
        ("top_k", None),
        ("top_p", None),
    )
    scores = chain(torch.tensor([[0.0, 3.0, 2.0, 1.0, 0.5, 9.0, 8.0, -1.0]]), [[5, 6]])
    assert chain.kept_counts() == (("no_repeat_ngram_size", 6), ("temperature", None), ("top_k", 4), ("top_p", 1))
    assert int((scores > -math.inf).sum()) == 1
    scores = chain(torch.zeros(2, 8), [[5, 6], [1, 1]])
    assert [count for _, count in chain.kept_counts()] == [6, None, 6, 5]
    assert scores.shape == (2, 8)


def test_a_vocabulary_smaller_than_the_numbers_asked_for_is_taken_whole():
    chain = _chain("top_k top_k=1000 top_h=0.9 top_n_sigma=20 typical_p=0.99 min_p=0.001")
    scores = chain(torch.tensor([[1.0, 2.0, 3.0]]), [[]])
    assert int((scores > -math.inf).sum()) >= 1


# The processors themselves -------------------------------------------------------------------------------------------


def test_presence_and_frequency_count_what_is_written_and_not_the_prompt():
    ids = torch.tensor([[1, 1, 2, 3, 2], [1, 1, 0, 0, 0]])
    zero = torch.zeros(2, 4)
    assert presence(2.0, 2)(zero, ids).tolist() == [[0, 0, -2, -2], [-2, 0, 0, 0]]
    assert frequency(2.0, 2)(zero, ids).tolist() == [[0, 0, -4, -2], [-6, 0, 0, 0]]
    assert frequency(2.0, 5)(zero, ids).tolist() == zero.tolist()


def test_dry_pays_by_the_length_of_the_repetition():
    ids = [1, 2, 3, 9, 2, 3, 4, 1, 2, 3]
    assert repetitions(ids, frozenset(), 50) == {9: 3, 4: 2}
    assert repetitions(ids, frozenset({2}), 50) == {9: 1, 4: 1}
    assert repetitions(ids, frozenset({3}), 50) == {}
    assert repetitions(ids, frozenset({9}), 50) == {4: 2}
    assert repetitions([], frozenset(), 50) == repetitions([4], frozenset(), 50) == {}
    fined = dry(2.0, 3.0, 2, frozenset())(torch.zeros(1, 10), torch.tensor([ids]))[0]
    assert (fined[9].item(), fined[4].item(), fined.count_nonzero().item()) == (-6.0, -2.0, 2)


def test_dry_looks_back_only_so_far_and_stays_a_number():
    ids = [7] * 3000
    assert repetitions(ids, frozenset(), 52) == {7: 52}
    fined = dry(10.0, 10.0, 100, frozenset())(torch.zeros(1, 10), torch.tensor([ids]))[0]
    assert not fined.isnan().any()
    assert fined[7] < -1e30


def test_xtc_leaves_the_least_likely_of_the_top_choices():
    scores = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    assert _kept(Xtc(1.0, 0.15, 0)(scores)) == [2, 3]
    assert _kept(Xtc(1.0, 0.35, 0)(scores)) == [0, 1, 2, 3]
    assert _kept(Xtc(0.0, 0.1, 0)(scores)) == [0, 1, 2, 3]


def test_xtc_at_threshold_zero_leaves_the_least_likely_that_is_still_there():
    scores = torch.tensor([[0.4, 0.3, 0.2, 0.0, 0.1]]).log()
    assert _kept(Xtc(1.0, 0.0, 0)(scores)) == [4]


def test_mirostat_learns_from_the_surprise_among_all_tokens():
    mirostat = Mirostat({"mirostat_tau": 1.0, "mirostat_eta": 0.5})
    scores = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
    assert _kept(mirostat(scores)) == [0, 1]
    mirostat.learn(1)
    assert mirostat.mu == pytest.approx(2.0 - 0.5 * (2.0 - 1.0))
    assert _kept(mirostat(scores)) == [0]
    mirostat.learn(0)
    assert mirostat.mu == pytest.approx(1.5)


def test_mirostat_always_leaves_a_token():
    mirostat = Mirostat({"mirostat_tau": 0.1, "mirostat_eta": 1.0})
    scores = torch.zeros(1, 8)
    mirostat(scores)
    mirostat.learn(3)
    assert mirostat.mu < 0
    assert _kept(mirostat(torch.tensor([[0.0, 1.0, 2.0, 2.0]]))) == [2, 3]
    mirostat(torch.tensor([[0.0, -math.inf]]))
    mirostat.learn(1)
    assert math.isfinite(mirostat.mu)


def test_top_n_sigma_measures_the_deviation_of_what_is_there():
    scores = torch.tensor([[4.0, 2.0, 0.0, -math.inf]])
    assert _kept(top_n_sigma(scores, 1.0)) == [0]
    assert _kept(top_n_sigma(scores, 1.3)) == [0, 1]
    assert _kept(top_n_sigma(scores * 100, 1.3)) == [0, 1]
    assert _kept(top_n_sigma(torch.zeros(1, 4), 1.0)) == [0, 1, 2, 3]


def _kept(scores):
    return (scores[0] > -math.inf).nonzero()[:, 0].tolist()
