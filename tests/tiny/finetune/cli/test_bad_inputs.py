"""The page of bad inputs says what the commands really say."""

from tests.bad_inputs import AREAS, table
from tests.rules.source import ROOT


def test_the_page_of_bad_inputs_is_what_the_commands_say(tmp_path, tiny_model, owner, monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    place = tmp_path / "here"
    place.mkdir()
    page = (ROOT / "docs" / "bad-input.md").read_text(encoding="utf-8")
    assert page.splitlines() == table(place, tiny_model).splitlines()
    assert sum(len(cases) for cases in AREAS.values()) >= 40
    assert not owner.datasets.is_dir() or list(owner.datasets.iterdir()) == []
    assert [run.name for run in owner.runs.iterdir()] == [(place / "run").resolve().name]
