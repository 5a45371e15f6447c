"""Strings that people typed become references, or are refused."""

import json

import pytest

from core.errors import UserError
from core.references import Folder, Hub, Run, StandIn, named_base, parse, resolve
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
    [
        *("a--b/c", "a/b--c", "a..b/c", "a/b.git", "a/b.", "a/b-", "a-/b", "a./b", "a/-b", f"a/{'b' * 97}", "a/b@x..y"),
        *("/x\0y", "~nosuchuser/x", f"/{'a' * 300}", f"/{'a/' * 3000}"),
        "/etc",
        "../x",
        "..",
        "a/../b",
        "a\\b",
        "",
        "gpt2 large",
        "a/b/c",
        "a/b@../x",
        "~/.ssh",
        "file:///etc",
        "a\nb/c",
    ],
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


def test_another_owners_folder_is_refused_where_the_workspace_is_a_link(tmp_path, monkeypatch):
    real = tmp_path / "real"
    folder = real / "someone" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (tmp_path / "link").symlink_to(real)
    monkeypatch.setenv("TUNESCOPE_HOME", str(tmp_path / "link"))
    for path in (folder, tmp_path / "link" / "someone" / "model"):
        with pytest.raises(UserError) as caught:
            parse(str(path), Owner("local"))
        assert caught.value.code == "core.reference"


def test_links_in_a_circle_are_no_folder(owner, tmp_path):
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(UserError, match="not a model folder"):
        parse(str(tmp_path / "circle"), owner)


def folder_with(path, **files):
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(content)
    return path


@pytest.mark.parametrize("content", ["{bad", "[]", "[" * 100_000, "\ud800".encode("utf-8", "surrogatepass")])
def test_an_adapter_whose_configuration_cannot_be_read_is_told(owner, tmp_path, content):
    folder = folder_with(tmp_path / "adapter")
    (folder / "adapter_config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match="adapter_config"):
        resolve(parse(str(folder), owner), owner)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"env__json": "{", "config__yaml": "model: a/b"}, "env.json"),
        ({"config__yaml": "x: 1"}, "config.yaml"),
        ({"config__yaml": "[1"}, "config.yaml"),
        ({"config__yaml": "- 1"}, "config.yaml"),
    ],
)
def test_a_run_whose_record_cannot_be_read_is_told(owner, tmp_path, files, named):
    folder = folder_with(tmp_path / "run", **files)
    folder_with(folder / "model", adapter_config__json="{}")
    with pytest.raises(UserError, match=named):
        resolve(parse(str(folder), owner), owner)


def test_a_model_folder_with_a_config_yaml_in_it_is_no_run(owner, tmp_path):
    folder = folder_with(tmp_path / "model", config__json="{}", config__yaml="x: 1")
    assert resolve(parse(str(folder), owner), owner).base == Folder(folder)


@pytest.mark.parametrize(
    ("config", "record", "base"),
    [
        ({"base_model_name_or_path": "a/b", "revision": "v1"}, {}, Hub("a/b", "v1")),
        ({"base_model_name_or_path": "a/b", "revision": "v1"}, {"stand_in": "smollm2-135m-instruct-q4_1"}, StandIn()),
        ({"base_model_name_or_path": "a/b", "revision": None}, {"base": "c/d"}, Hub("a/b")),
    ],
)
def test_the_base_of_an_adapter_folder_is_found_by_its_record_and_at_its_revision(
    owner, tmp_path, config, record, base
):
    folder = folder_with(tmp_path / "x", adapter_config__json=json.dumps(config), tunescope__json=json.dumps(record))
    assert resolve(parse(str(folder), owner), owner).base == base


def test_an_adapter_folder_may_name_a_folder_as_its_base_and_is_told_where_it_is_not_there(owner, tmp_path):
    base = folder_with(tmp_path / "base", config__json="{}")
    named = json.dumps({"base_model_name_or_path": str(base), "revision": "main"})
    adapter = folder_with(tmp_path / "adapter", adapter_config__json=named)
    assert resolve(Folder(adapter), owner).base == Folder(base)
    with pytest.raises(UserError, match="names the base model"):
        named_base(adapter, Owner("somebody"))


def test_another_owners_run_is_not_found(owner):
    folder = owner.runs / "r20261123-181502-3fa9"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("model: a/b\n")
    with pytest.raises(UserError, match=r"Run .* was not found"):
        resolve(Run(folder.name), Owner("someone"))
