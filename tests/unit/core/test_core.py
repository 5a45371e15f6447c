"""Errors, words and files of the core."""

import json
import os
import pickle

import pytest

from core import words
from core.errors import UserError
from core.files import folder_size, new_folder, read_json, write_file
from core.workspace import Owner, dataset_folder, local_owner


def test_an_error_speaks_the_readers_language():
    error = UserError("core.no_run", value="r1")
    assert 'Run "r1" was not found' in str(error)
    with words.speaking("zh"):
        assert "未找到运行" in str(error)
    assert 'Run "r1" was not found' in str(error)


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


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000 + "]" * 100_000, '{"a": "' + "x" * 100 + '"}'])
def test_json_that_cannot_be_used_is_one_kind_of_error(tmp_path, monkeypatch, content):
    monkeypatch.setattr("core.files._LARGEST_JSON", 50 if content.startswith('{"a') else 1_000_000)
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=r"."):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(json.dumps({"a": "é"}))
    assert read_json(tmp_path / "a.json") == {"a": "é"}


def test_the_size_of_a_folder_counts_plain_files_at_any_depth(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_bytes(b"123")
    (tmp_path / "y").write_bytes(b"4567")
    (tmp_path / "link").symlink_to(tmp_path / "y")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    assert folder_size(tmp_path) == 7 and folder_size(tmp_path / "nothing") == 0


def test_an_owners_token_is_never_shown():
    assert "secret" not in repr(Owner("local", token="hf_secret"))


def test_there_is_no_local_owner_on_a_space(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "a/b")
    with pytest.raises(UserError, match="Sign in with Hugging Face to do this"):
        local_owner()


def test_a_dataset_is_found_by_the_beginning_of_its_id(owner):
    (owner.datasets / ("ab" * 32)).mkdir(parents=True)
    assert dataset_folder(owner, "ab" * 6).name == "ab" * 32
    with pytest.raises(UserError, match="not a dataset id"):
        dataset_folder(owner, "../runs")
    with pytest.raises(UserError, match=r"Dataset .* was not found"):
        dataset_folder(owner, "cd" * 6)
