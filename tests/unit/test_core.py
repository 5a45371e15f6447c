"""Errors, words and files of the core."""

import pickle

import pytest

from core import words
from core.errors import UserError
from core.files import new_folder, write_file
from core.workspace import Owner, dataset_folder, local_owner


def test_an_error_speaks_the_readers_language():
    error = UserError("core.no_run", value="r1")
    assert "no run" in str(error)
    with words.speaking("zh"):
        assert "没有运行" in str(error)
    assert "no run" in str(error)


def test_an_error_survives_the_way_from_a_child_process():
    again = pickle.loads(pickle.dumps(UserError("core.no_run", value="r1")))
    assert (again.code, again.facts) == ("core.no_run", {"value": "r1"})


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "a.txt"
    write_file(target, "old")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", no_space)
    with pytest.raises(OSError, match="No space"):
        write_file(target, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert target.read_text() == "old"


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "a") as part:
        (part / "x").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with new_folder(tmp_path / "a") as part:
        (part / "x").write_text("x")
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["a", "a/x"]


def test_the_first_of_two_equal_folders_stays(tmp_path):
    with new_folder(tmp_path / "a") as part:
        (part / "x").write_text("first")
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "x").write_text("theirs")
    assert (tmp_path / "a" / "x").read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_owners_token_is_never_shown():
    assert "secret" not in repr(Owner("local", token="hf_secret"))


def test_there_is_no_local_owner_on_a_space(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "a/b")
    with pytest.raises(UserError, match="signed in"):
        local_owner()


def test_a_dataset_is_found_by_the_beginning_of_its_id(owner):
    (owner.datasets / ("ab" * 32)).mkdir(parents=True)
    assert dataset_folder(owner, "ab" * 6).name == "ab" * 32
    with pytest.raises(UserError, match="not a dataset id"):
        dataset_folder(owner, "../runs")
    with pytest.raises(UserError, match="no dataset"):
        dataset_folder(owner, "cd" * 6)
