"""Which texts name a folder of this machine, and which only look so."""

import tempfile
from pathlib import Path

import pytest

from finetune.publish.repo.files import machine_path


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    monkeypatch.setenv("TUNESCOPE_HOME", "/data")
    (tmp_path / "real").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "real")
    monkeypatch.setenv("TUNESCOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        *("/data", "see /data.", "in /data/local/runs", '"/data/x"', "file:///data/x", "a:/data/x", "/data, and more"),
        *("/home/ada/models/x", "C:\\Users\\ada", f"kept in {tempfile.gettempdir()}/x", f"from {Path.home()}/models"),
    ],
)
def test_a_folder_of_this_machine_is_found(text):
    assert machine_path(["plain", text]) == text


def test_a_folder_is_found_by_the_name_behind_a_link_too(folders):
    assert machine_path([f"from {folders / 'real'}/x"]) and machine_path([f"from {folders / 'cache'}/x"])


@pytest.mark.parametrize(
    "text",
    [
        *("https://huggingface.co/databricks/dolly", "org/data-juicer-1B", "tester/database-model", "tester/data"),
        *("https://huggingface.co/data", "../data/x", "/database is a word", "a-/data", "and/or", "1 / 2"),
    ],
)
def test_what_only_looks_like_one_is_not(text):
    assert machine_path([text]) is None


def test_the_root_of_the_disk_is_no_sign(monkeypatch):
    monkeypatch.setenv("TUNESCOPE_HOME", "/")
    assert machine_path(["and / or", "a / b"]) is None
