"""In float32 every column writes what `model.generate` writes alone, whatever runs beside it."""

import pytest

from inference.compare.replay import neutral_config
from inference.strategies.table import parse_columns
from tests.tiny.architectures import ENDS
from tests.tiny.decoding import differences, load_tiny, run

pytestmark = pytest.mark.matrix

ALL = [
    "greedy",
    "beam",
    "beam num_beams=2 early_stopping=true",
    "beam num_beams=3 length_penalty=2 early_stopping=never",
    "beam num_beams=5 length_penalty=-1",
    "sample",
    "sample temperature=0.7",
    "top_k top_k=20",
    "nucleus temperature=0.8",
    "nucleus top_p=0.5",
    "min_p",
    "typical",
]
PROMPTS = ["hello", "the quick brown fox", "How do I make tea? 茶"]


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load_tiny(tiny_model, end_ids=ENDS)


@pytest.mark.parametrize("seed", [0, 7, 1234])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_strategy_equals_generate(loaded, prompt, seed):
    result, wrong = differences(loaded, prompt, ALL, seed=seed)
    assert wrong == []
    assert result.forwards <= 30


def test_columns_that_end_early_and_late_equal_generate(loaded):
    """The point of the five end tokens: columns leave the batch at different steps, beams by a finished hypothesis."""
    columns = [column for prompt in PROMPTS for column in run(loaded, prompt, ALL).columns]
    beams = [column for column in columns if column.name.startswith("beam")]
    assert {column.finish for column in columns} == {"eos", "length"}
    assert len({len(column.token_ids) for column in columns}) > 8
    assert sum(column.finish == "eos" for column in beams) >= 3
    assert all((column.token_ids[-1] in ENDS) == (column.finish == "eos") for column in columns)


def test_without_end_tokens_all_columns_reach_the_length(tiny_model):
    loaded = load_tiny(tiny_model, end_ids=[])
    loaded.model.generation_config.eos_token_id = None
    result, wrong = differences(loaded, "hello", ALL, max_new_tokens=12)
    assert wrong == []
    assert [len(column.token_ids) for column in result.columns] == [12] * 12
    assert result.forwards == 12


def test_a_column_does_not_depend_on_its_company(loaded):
    alone = {name: run(loaded, PROMPTS[1], [name], seed=3).columns[0].token_ids for name in ALL}
    for company in (ALL, ALL[::-1], ALL[3:8], ["sample"] * 12):
        for column in run(loaded, PROMPTS[1], company, seed=3).columns:
            assert column.token_ids == alone[column.name], (column.name, company)


def test_a_checkpoints_own_settings_change_nothing_but_its_end_tokens(tiny_model, loaded):
    harsh = load_tiny(tiny_model, end_ids=ENDS)
    settings = {"temperature": 0.1, "top_k": 2, "top_p": 0.1, "min_p": 0.9, "repetition_penalty": 5.0}
    settings |= {"do_sample": True, "num_beams": 3, "length_penalty": 3.0, "no_repeat_ngram_size": 2}
    for name, value in settings.items():
        setattr(harsh.model.generation_config, name, value)
    result, wrong = differences(harsh, PROMPTS[0], ALL, peer=loaded)
    assert wrong == []
    assert differences(harsh, PROMPTS[0], ALL)[1] == []
    assert [c.token_ids for c in result.columns] == [c.token_ids for c in run(loaded, PROMPTS[0], ALL).columns]


def test_another_seed_writes_another_text_and_the_same_seed_the_same(loaded):
    texts = [run(loaded, PROMPTS[0], ["sample"], seed=seed).columns[0].token_ids for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_plain_and_prepacked_layers_write_the_same(tiny_model, loaded):
    exact = run(loaded, PROMPTS[2], ALL, exact=True)
    assert [c.token_ids for c in exact.columns] == [c.token_ids for c in run(loaded, PROMPTS[2], ALL).columns]


def test_the_peers_config_is_neutral(loaded):
    config = neutral_config(loaded.model, 5)
    assert (config.top_k, config.top_p, config.repetition_penalty, config.do_sample) == (0, 1.0, 1.0, False)
    assert config.eos_token_id == sorted(ENDS)
    assert len(parse_columns(ALL)) == 12
