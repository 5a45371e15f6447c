"""Decoding presets: a column of Compare as a file that `generate` follows to the token."""

import json

import pytest

from core.words import say
from finetune.publish.kinds import Options, build, presets
from inference.strategies.table import STRATEGIES, ColumnSpec, parse_column
from tests.refusals import refused
from tests.tiny.kinds import finished

COLUMNS = (
    "greedy",
    "greedy repetition_penalty=1.3",
    "beam num_beams=3 length_penalty=0.5",
    "sample temperature=1.3",
    "top_k top_k=7",
    "nucleus top_p=0.8 temperature=0.7",
    "min_p min_p=0.2",
    "typical typical_p=0.6",
)
PROMPT = "how to make a good cup of tea"


@pytest.fixture(autouse=True)
def cache(monkeypatch, workspace):
    monkeypatch.setenv("TUNESCOPE_CACHE", str(workspace / "cache"))


@pytest.fixture(scope="module")
def loaded(tiny_model):
    from core.references import Folder
    from inference.models.locate import Source, fetch, load

    return load(Source(fetch(Folder(tiny_model), False), None), "float32", "cpu")


def test_every_strategy_is_known_here_or_refused_in_a_sentence():
    tried = {parse_column(column).strategy for column in COLUMNS}
    assert set(presets.GENERATE) & set(STRATEGIES) == tried
    for key in set(STRATEGIES) - tried:
        assert key in refused("kinds.not_in_generate", presets.generation_config, parse_column(key))
    assert "dreamt" in refused("kinds.not_in_generate", presets.generation_config, ColumnSpec("dreamt", "dreamt"))


@pytest.mark.parametrize("setting", ["seed=3", "stop=END", "banned=5", "presence_penalty=0.4", "xtc_probability=0.5"])
def test_a_setting_that_generate_lacks_is_refused_by_name(setting):
    said = refused("kinds.setting_not_in_generate", presets.generation_config, parse_column(f"nucleus {setting}"))
    assert setting.partition("=")[0] in said


def test_a_knob_without_the_one_it_belongs_to_changes_nothing_and_is_not_refused():
    assert presets.generation_config(parse_column("nucleus dry_base=2")) == presets.generation_config(
        parse_column("nucleus")
    )


@pytest.mark.parametrize("column", COLUMNS)
def test_a_preset_read_back_writes_the_tokens_of_its_column(owner, tiny_model, loaded, tmp_path, column):
    import torch
    from transformers import GenerationConfig

    from inference.compare.replay import generate_alone

    run = finished(owner, tiny_model, full=True)
    built = build("presets", run, owner, tmp_path / "out", Options(columns=(column,)))
    config = GenerationConfig.from_pretrained(built.folder)
    ids = loaded.tokenizer(PROMPT)["input_ids"]
    wanted = generate_alone(loaded, ids, parse_column(column), seed=11, max_new_tokens=24)
    torch.manual_seed(11)
    got = loaded.model.generate(torch.tensor([ids]), generation_config=config, max_new_tokens=24)
    assert got.tolist() == wanted.tolist() and len(set(got[0, len(ids) :].tolist())) > 1


def test_the_first_preset_counts_and_the_others_are_loaded_by_name(owner, tiny_model, tmp_path):
    from transformers import GenerationConfig

    run = finished(owner, tiny_model, full=True)
    columns = ("nucleus top_p=0.8", "beam num_beams=3 model=base")
    built = build("presets", run, owner, tmp_path / "out", Options(columns=columns))
    assert built.facts["presets"] == {
        "generation_config.json": columns[0],
        "presets/beam-num_beams-3.json": columns[1],
    }
    first, second = (GenerationConfig.from_pretrained(built.folder, name) for name in built.facts["presets"])
    assert (first.top_p, first.do_sample, second.num_beams) == (0.8, True, 3)
    ends = json.loads((run.model / "generation_config.json").read_text())
    assert first.eos_token_id == ends["eos_token_id"]


def test_none_too_many_or_a_wrong_preset_is_refused(owner, tiny_model, tmp_path):
    run = finished(owner, tiny_model)
    for columns in ((), ("greedy",) * 13):
        sentence = refused("kinds.no_preset", build, "presets", run, owner, tmp_path / "out", Options(columns=columns))
        assert str(len(columns)) in sentence
    wrong = Options(columns=("nucleus top_p=7",))
    assert "top_p" in refused("decode.knob_range", build, "presets", run, owner, tmp_path / "out", wrong)
    assert not (tmp_path / "out").exists() and say("kinds.title.presets")
