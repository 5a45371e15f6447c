"""Strings that people typed become references, or are refused."""

import json

import pytest

from core.errors import UserError
from core.references import Folder, Hub, Run, StandIn, parse, resolve
from core.workspace import Owner


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", Hub("HuggingFaceTB/SmolLM2-135M-Instruct")),
        (" a/b@v1.0 ", Hub("a/b", "v1.0")),
        ("smollm2-135m-instruct-q4_1", StandIn()),
        ("r20261123-181502-3fa9", Run("r20261123-181502-3fa9")),
    ],
)
def test_what_is_well_formed_is_read(owner, text, reference):
    assert parse(text, owner) == reference


@pytest.mark.parametrize(
    "text",
    ["/etc", "../x", "..", "a/../b", "a\\b", "", "gpt2 large", "a/b/c", "a/b@../x", "~/.ssh", "file:///etc", "a\nb/c"],
)
def test_what_is_no_reference_is_refused(owner, text):
    with pytest.raises(UserError):
        parse(text, owner)


def test_a_local_folder_with_a_model_is_read_by_its_path(owner, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert parse(str(tmp_path), owner) == Folder(tmp_path)


def test_a_folder_in_the_way_never_stands_for_a_repository(owner, tmp_path, monkeypatch):
    (tmp_path / "name" / "model").mkdir(parents=True)
    (tmp_path / "name" / "model" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert parse("name/model", owner) == Hub("name/model")


def test_another_owners_folder_is_refused(workspace, tmp_path):
    folder = workspace / "someone" / "runs" / "r20261123-181502-3fa9" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError):
        parse(str(folder), Owner("local"))


def test_a_link_into_another_owners_folder_is_refused(workspace, tmp_path):
    folder = workspace / "someone" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(UserError):
        parse(str(tmp_path / "link"), Owner("local"))


@pytest.mark.parametrize("variable", ["SPACE_ID", "SYSTEM"])
def test_no_folder_is_opened_on_a_space(monkeypatch, tmp_path, variable):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv(variable, "spaces")
    with pytest.raises(UserError):
        parse(str(tmp_path), Owner("local"))


def test_a_run_stands_for_its_adapter_on_the_base_it_was_really_trained_on(owner):
    folder = owner.runs / "r20261123-181502-3fa9"
    (folder / "model").mkdir(parents=True)
    (folder / "config.yaml").write_text("model: HuggingFaceTB/SmolLM2-135M-Instruct\n")
    (folder / "env.json").write_text(json.dumps({"base": "smollm2-135m-instruct-q4_1"}))
    (folder / "model" / "adapter_config.json").write_text("{}")
    resolved = resolve(Run(folder.name), owner)
    assert resolved.base == StandIn()
    assert resolved.adapter == Folder(folder / "model")


def test_a_run_without_a_model_says_so(owner):
    folder = owner.runs / "r20261123-181502-3fa9"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("model: a/b\n")
    with pytest.raises(UserError, match="no model yet"):
        resolve(Run(folder.name), owner)


def test_another_owners_run_is_not_found(owner):
    folder = owner.runs / "r20261123-181502-3fa9"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("model: a/b\n")
    with pytest.raises(UserError, match="no run"):
        resolve(Run(folder.name), Owner("someone"))
