"""Full attention, sliding windows, state spaces and mixtures: every column that `generate` can run equals it."""

from itertools import product

import pytest

from inference.strategies.table import parse_columns
from tests.tiny.architectures import CONFIGS, ENDS, random_model
from tests.tiny.decoding import checked, run, run_ids

pytestmark = pytest.mark.matrix

PICKS = [
    "greedy",
    "greedy repetition_penalty=1.3",
    "greedy no_repeat_ngram_size=2",
    'greedy banned="the|e" stop="qu|\\n"',
    "greedy start=40,41",
    "lookup",
    "lookup start=60,61 ngram=2",
    "sample start=40,41,50",
    "sample temperature=0.7 seed=9",
    "top_k top_k=20",
    "nucleus temperature=0.8",
    "min_p",
]
DRAWS = [
    "typical",
    "epsilon epsilon_cutoff=0.01",
    "eta eta_cutoff=0.05",
    "top_h",
    "sample top_k=30 top_p=0.9 min_p=0.02 typical_p=0.95 epsilon_cutoff=0.001 eta_cutoff=0.001 temperature=1.3",
    'sample repetition_penalty=1.2 no_repeat_ngram_size=3 banned="the|a" stop="qu|\\n"',
    "beam_sample",
    "beam_sample num_beams=2 temperature=0.7 early_stopping=true",
    "beam_sample num_beams=5 top_k=30 length_penalty=2",
    "beam_sample num_beams=8 top_p=0.8 early_stopping=never seed=4",
    "beam_sample temperature=1.5 typical_p=0.9 repetition_penalty=1.2",
    "beam_sample start=44",
]
BEAMS = [
    "beam",
    "beam num_beams=2 early_stopping=true",
    "beam num_beams=3 length_penalty=2 early_stopping=never",
    "beam num_beams=4 early_stopping=never length_penalty=-2",
    "beam num_beams=5 length_penalty=-1",
    "beam num_beams=6 length_penalty=0 repetition_penalty=1.4",
    "beam num_beams=7 no_repeat_ngram_size=3",
    "beam num_beams=8 early_stopping=never",
    'beam banned="the|e"',
    'beam num_beams=3 stop="a|o"',
    "beam start=40,41,50 early_stopping=never length_penalty=2",
    "beam num_beams=8 early_stopping=true length_penalty=0.5",
]
IN_16_BIT = [*PICKS[:6], "sample start=40,41", "nucleus top_p=0.5", "typical", BEAMS[2], BEAMS[10], DRAWS[9]]
GROUPS = {"picks": PICKS, "draws": DRAWS, "beams": BEAMS}


@pytest.fixture(scope="module", params=CONFIGS)
def loaded(request):
    return random_model(request.param)


@pytest.mark.parametrize("group", GROUPS)
def test_every_column_equals_generate_whatever_the_model_is_built_of(loaded, group):
    ids = loaded.tokenizer("the quick brown fox jumps")["input_ids"]
    _, verdicts = checked(loaded, ids, parse_columns(GROUPS[group]), seed=7, max_new_tokens=20)
    assert [verdict.sentence for verdict in verdicts if verdict.kind != "identical"] == []


def test_columns_that_stop_at_different_steps_equal_generate(loaded):
    lengths, ends, specs = set(), set(), parse_columns([*DRAWS[:9], *BEAMS[1:4]])
    for seed, prompt in enumerate(("hello", "How do I make tea? 茶", "la la")):
        ids = loaded.tokenizer(prompt)["input_ids"]
        result, verdicts = checked(loaded, ids, specs, seed=seed, max_new_tokens=24)
        assert [verdict.sentence for verdict in verdicts if verdict.kind != "identical"] == []
        lengths |= {len(column.token_ids) for column in result.columns}
        ends |= {column.token_ids[-1] in ENDS for column in result.columns}
    assert len(lengths) > 2
    assert ends == {True, False}


def test_order_and_company_of_columns_make_no_difference(loaded):
    mixed = [*PICKS[4:8], *DRAWS[6:9], *BEAMS[2:6], "dola"]
    ids = loaded.tokenizer("tea")["input_ids"]
    alone = {name: run_ids(loaded, ids, parse_columns([name]), seed=3, max_new_tokens=12).columns[0] for name in mixed}
    for company in (mixed, mixed[::-1], mixed[::2]):
        for column in run_ids(loaded, ids, parse_columns(company), seed=3, max_new_tokens=12).columns:
            assert column.error is None
            assert column.token_ids == alone[column.name].token_ids, (column.name, company)


@pytest.mark.parametrize(("name", "dtype"), [*product(["llama", "gemma3", "mamba", "lfm2"], ["bfloat16"])])
def test_exact_columns_equal_generate_bit_for_bit_in_16_bit(name, dtype):
    """Bit for bit: with so few digits many scores are equal, so the order among equals is that of `generate` too."""
    loaded = random_model(name, dtype=dtype)
    ids = loaded.tokenizer("the quick brown fox jumps")["input_ids"]
    _, verdicts = checked(loaded, ids, parse_columns(IN_16_BIT), seed=7, max_new_tokens=16, exact=True)
    assert [verdict.sentence for verdict in verdicts if verdict.kind != "identical"] == []


@pytest.mark.parametrize("name", ["mistral", "mamba", "qwen3_next"])
def test_lookup_guesses_nothing_where_the_cache_cannot_be_taken_back(name):
    guessing, plain = run(random_model(name), "la la la la la", ["lookup", "greedy"]).columns
    assert guessing.token_ids == plain.token_ids
    assert guessing.row_forwards == len(guessing.token_ids)


def test_what_a_model_cannot_do_leaves_the_other_columns_unharmed(loaded):
    columns = ["greedy", "contrastive", "dola", "diverse_beam", "dynamic_beam", "beam"]
    result = run(loaded, "hello", columns, max_new_tokens=8)
    alone = [run(loaded, "hello", [name], max_new_tokens=8).columns[0].token_ids for name in columns]
    assert [column.token_ids for column in result.columns] == alone
    assert [column.error for column in result.columns] == [None] * 6
