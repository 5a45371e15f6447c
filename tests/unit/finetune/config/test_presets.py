"""Presets: one for each method and objective, listed, written down by the shell, named when misspelt."""

import pytest

from core.errors import UserError
from core.words import LOCALES, catalogue
from finetune.cli.main import main
from finetune.config.presets import PRESETS, preset_named, table
from finetune.config.run_config import load_yaml
from finetune.methods import METHODS
from finetune.objectives import OBJECTIVES
from tests.rules.source import ROOT


def test_each_method_and_each_objective_has_one_and_one_has_three_stages():
    data = [{"dataset": "ab" * 6}]
    configs = [preset.config([data] * len(preset.stages)) for preset in PRESETS.values()]
    assert {config.method for config in configs} == set(METHODS)
    assert {stage.objective for config in configs for stage in config.stages} == set(OBJECTIVES)
    assert PRESETS["staged"].objectives == ["pretrain", "sft", "dpo"]


def test_each_has_its_words_and_the_page_lists_it():
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert page == table()
    for name, preset in PRESETS.items():
        assert f"| `{name}` |" in page
        assert all(key in catalogue(place) for key in (preset.title_key, preset.about_key) for place in LOCALES)


@pytest.mark.parametrize("name", PRESETS)
def test_the_shell_writes_one_down_that_can_be_read_back(name, capsys, tmp_path):
    files = [f"{number}.jsonl" for number in range(len(PRESETS[name].stages))]
    assert main(["preset", name, *files]) == 0
    config = load_yaml(capsys.readouterr().out, tmp_path)
    assert [source.path for source in config.sources] == [str(tmp_path / file) for file in files]
    given = [[{"path": str(tmp_path / file)}] for file in files]
    assert config == PRESETS[name].config(given)


def test_without_files_names_stand_for_them_and_without_a_name_all_are_listed(capsys):
    assert main(["preset", "staged"]) == 0
    told = capsys.readouterr()
    assert "path: texts.jsonl" in told.out and "preferences.jsonl" in told.err
    assert main(["preset"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(PRESETS)


def test_what_cannot_be_is_said(capsys):
    with pytest.raises(UserError, match='mean "staged"'):
        preset_named("stagd")
    with pytest.raises(UserError, match="lora, rslora"):
        preset_named("xyzzy")
    assert main(["preset", "staged", "one.jsonl"]) == 2
    assert "pretrain, sft, dpo" in capsys.readouterr().err
