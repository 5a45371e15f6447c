"""The table of strategies and the lines that people write."""

import pytest

from core.errors import UserError
from inference.strategies.table import STRATEGIES, check_run, parse_column, parse_columns

DEFAULTS = {
    "greedy": {},
    "beam": {"num_beams": 4, "length_penalty": 1.0, "early_stopping": False},
    "sample": {"temperature": 1.0},
    "top_k": {"top_k": 50, "temperature": 1.0},
    "nucleus": {"top_p": 0.9, "temperature": 1.0},
    "min_p": {"min_p": 0.1, "temperature": 1.0},
    "typical": {"typical_p": 0.9, "temperature": 1.0},
    "beam_sample": {"num_beams": 4, "temperature": 1.0, "length_penalty": 1.0, "early_stopping": False},
    "diverse_beam": {"num_beams": 6, "num_groups": 3, "diversity_penalty": 1.0, "length_penalty": 1.0},
    "dynamic_beam": {
        "num_beams": 8,
        "prune_absolute": 2.5,
        "prune_local": 0.02,
        "per_node": 3,
        "entropy_width": 0.0,
        "length_penalty": 1.0,
        "early_stopping": False,
    },
    "epsilon": {"epsilon_cutoff": 3e-4, "temperature": 1.0},
    "eta": {"eta_cutoff": 2e-3, "temperature": 1.0},
    "top_h": {"top_h": 0.4, "temperature": 1.0},
    "top_n_sigma": {"top_n_sigma": 1.0, "temperature": 1.0},
    "mirostat": {"mirostat_tau": 5.0, "mirostat_eta": 0.1, "temperature": 1.0},
    "dry": {"dry_multiplier": 0.8, "dry_base": 1.75, "dry_allowed_length": 2, "temperature": 1.0},
    "xtc": {"xtc_probability": 0.5, "xtc_threshold": 0.1, "temperature": 1.0},
    "contrastive": {"top_k": 4, "penalty_alpha": 0.6},
    "contrast": {"plausibility": 0.1, "strength": 1.0},
    "dola": {"layers": "high", "plausibility": 0.1},
    "lookup": {"ngram": 3, "draft_tokens": 8},
}
ANY = (
    "repetition_penalty=1.3 presence_penalty=0.5 frequency_penalty=-0.5 no_repeat_ngram_size=3 "
    'banned="tea|green tea" stop="\\n\\n|the end" start=3,12,7'
)


@pytest.mark.parametrize("key", DEFAULTS)
def test_a_bare_strategy_has_its_defaults(key):
    assert parse_column(key).knobs == DEFAULTS[key]
    assert set(STRATEGIES) == set(DEFAULTS)
    assert STRATEGIES[key].source


def test_a_line_is_read_whole():
    spec = parse_column("nucleus top_p=0.95 temperature=0.8 model=base")
    assert (spec.name, spec.strategy, spec.model) == (
        "nucleus top_p=0.95 temperature=0.8 model=base",
        "nucleus",
        "base",
    )
    assert spec.knobs == {"top_p": 0.95, "temperature": 0.8}
    assert parse_column("beam num_beams=8 early_stopping=never").knobs["early_stopping"] == "never"
    assert parse_column("beam early_stopping=true").knobs["early_stopping"] is True
    assert (parse_column("beam num_beams=8").rows, parse_column("sample").rows) == (8, 1)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("nucleos", ['"nucleos"', "one of: nucleus, greedy"]),
        ("", ["empty", "greedy"]),
        ("greedy temperature=1", ["greedy", "temperature", "repetition_penalty", "model"]),
        ("top_k topk=5", ["topk", "Use one of: top_k"]),
        ("nucleus top_p=1.5", ["top_p", "1.5", "0.01 to 1"]),
        ("nucleus top_p=0", ["top_p", "0.01 to 1"]),
        ("sample temperature=-1", ["temperature", "-1", "0.01 to 10"]),
        ("sample temperature=nan", ["temperature", "nan", "0.01 to 10"]),
        ("sample temperature=inf", ["temperature", "inf"]),
        ("sample temperature=warm", ["temperature", '"warm"', "not a number"]),
        ("beam num_beams=2.5", ["num_beams", '"2.5"', "not a whole number", "2 to 16"]),
        ("beam num_beams=99", ["num_beams", "99", "2 to 16"]),
        ("beam early_stopping=maybe", ["early_stopping", '"maybe"', "false, true, never"]),
        ("top_k top_k=5 top_k=6", ["top_k", "twice", '"6"']),
        ("top_k 5", ['"5"', "name=value"]),
        ("top_k top_k=", ['"top_k="', "name=value"]),
        ("min_p min_p=2", ["min_p", "2", "0 to 1"]),
        ("typical typical_p=0", ["typical_p", "0.01 to 1"]),
        ("nucleus temprature=0.7", ["temprature", "Use one of: temperature"]),
        ("diverse_beam num_beams=6 num_groups=4", ["6 beams", "4 groups", "multiple"]),
        ("nucleus temperature_last=true", ["temperature_last", "temperature of 1", "Set temperature"]),
        ('greedy stop="half', ["half", "double quote"]),
        ('greedy stop="a||b"', ["stop", "a||b", "empty item"]),
        ("greedy start=3,x", ["start", "3,x", "token ids"]),
        ("greedy start=-3", ["start", "-3", "token ids"]),
        ("mirostat top_k=5", ["mirostat", "top_k"]),
    ],
)
def test_a_wrong_line_is_refused_in_a_sentence(line, parts):
    with pytest.raises(UserError) as refused:
        parse_column(line)
    sentence = str(refused.value)
    assert [part for part in parts if part not in sentence] == [], sentence


@pytest.mark.parametrize("key", DEFAULTS)
def test_every_strategy_takes_penalties_bans_stops_and_a_start(key):
    spec = parse_column(f"{key} {ANY}")
    assert spec.knobs.items() >= DEFAULTS[key].items()
    assert (spec.knobs["repetition_penalty"], spec.knobs["frequency_penalty"]) == (1.3, -0.5)
    assert spec.texts("banned") == ["tea", "green tea"]
    assert spec.texts("stop") == ["\n\n", "the end"]
    assert spec.start == [3, 12, 7]


def test_draws_take_every_other_filter_and_a_seed():
    spec = parse_column("nucleus min_p=0.05 temperature=0.7 temperature_last=true dry_multiplier=0.8 seed=9")
    assert (spec.knobs["min_p"], spec.knobs["temperature_last"], spec.knobs["seed"]) == (0.05, True, 9)
    assert [key for key in DEFAULTS if parse_column(key).draws] == [
        key for key in DEFAULTS if STRATEGIES[key].knob("seed") is not None
    ]


@pytest.mark.parametrize("count", [0, 13])
def test_a_comparison_has_one_to_twelve_columns(count):
    with pytest.raises(UserError, match=f"has {count} columns, and 1 to 12 are allowed"):
        parse_columns(["greedy"] * count)
    assert len(parse_columns(["greedy"] * 12)) == 12


def test_seed_and_length_have_bounds():
    check_run(0, 1)
    for seed, length, part in [
        (-1, 5, "Seed is -1"),
        (2**32, 5, "Seed is 4294967296"),
        (0, 0, r"Max new tokens \(max_new_tokens\) is 0"),
    ]:
        with pytest.raises(UserError, match=part):
            check_run(seed, length)


@pytest.mark.parametrize("value", [2.5, 3.0, float("nan"), float("inf"), True, "9", None, [1]])
def test_seed_and_length_are_integers_and_nothing_else(value):
    for field, seed, length in [("seed", value, 5), ("max_new_tokens", 0, value)]:
        with pytest.raises(UserError, match=f'"{field}" is .* not a whole number. Use a whole number from'):
            check_run(seed, length)
