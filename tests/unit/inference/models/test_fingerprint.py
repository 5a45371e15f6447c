"""Weights are told by their bytes, however they are cut into files."""

import json

import numpy
import pytest
from safetensors.numpy import save_file

from core.errors import UserError
from inference.models import fingerprint


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESCOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def weights():
    return {name: numpy.arange(12, dtype=numpy.float32).reshape(3, 4) + i for i, name in enumerate("abc")}


def folder_with(path, *files):
    path.mkdir()
    index = {}
    for number, content in enumerate(files, 1):
        name = "model" if len(files) == 1 else f"model-{number:05}-of-{len(files):05}"
        save_file(content, path / f"{name}.safetensors")
        index |= dict.fromkeys(content, f"{name}.safetensors")
    if len(files) > 1:
        write_index(path, index)
    return path


def write_index(folder, weight_map):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_shards_do_not_matter(tmp_path):
    held = weights()
    whole = folder_with(tmp_path / "whole", held)
    shards = folder_with(tmp_path / "shards", {"c": held["c"]}, {"a": held["a"], "b": held["b"]})
    assert fingerprint.fingerprint(whole) == fingerprint.fingerprint(shards)
    assert len(fingerprint.fingerprint(whole)) == 64 and fingerprint.parameters(shards) == 36


@pytest.mark.parametrize(
    "change",
    [
        lambda held: held["b"].__setitem__((0, 0), 7),
        lambda held: held.update(b=held["b"].reshape(4, 3)),
        lambda held: held.update(b=held["b"].view(numpy.int32)),
        lambda held: held.update(d=held.pop("b")),
    ],
    ids=["value", "shape", "dtype", "name"],
)
def test_any_change_shows(tmp_path, change):
    changed = weights()
    change(changed)
    before, after = folder_with(tmp_path / "before", weights()), folder_with(tmp_path / "after", changed)
    assert fingerprint.fingerprint(before) != fingerprint.fingerprint(after)


def test_it_is_remembered_until_the_file_changes(tmp_path, cache):
    folder = folder_with(tmp_path / "model", weights())
    first = fingerprint.fingerprint(folder)
    memory = cache / "fingerprints.json"
    memory.write_text(json.dumps(dict.fromkeys(json.loads(memory.read_text()), "remembered")))
    assert fingerprint.fingerprint(folder) == "remembered"
    save_file({**weights(), "d": numpy.zeros(3)}, folder / "model.safetensors")
    assert fingerprint.fingerprint(folder) not in (first, "remembered")


@pytest.mark.parametrize(
    "named",
    [
        *("/elsewhere/model.safetensors", "../whole/model.safetensors", "sub/model.safetensors"),
        *("adapter_model.safetensors", "model-00003-of-00002.safetensors", "model-00001-of-00002.safetensors\n"),
        *(5, ["a"], None),
    ],
)
def test_an_index_names_shards_that_are_there_and_nothing_else(tmp_path, named):
    folder_with(tmp_path / "whole", weights())
    shards = folder_with(tmp_path / "shards", {"a": weights()["a"]}, {"b": weights()["b"]})
    (shards / "adapter_model.safetensors").write_bytes(b"")
    write_index(shards, {"a": "model-00001-of-00002.safetensors", "b": named})
    with pytest.raises(UserError) as caught:
        fingerprint.fingerprint(shards)
    assert caught.value.code == "models.damaged"


@pytest.mark.parametrize("index", [None, "{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": 1}'])
def test_shards_without_an_index_are_no_model(tmp_path, index):
    shards = folder_with(tmp_path / "shards", {"a": weights()["a"]}, {"b": weights()["b"]})
    path = shards / "model.safetensors.index.json"
    path.unlink() if index is None else path.write_text(index)
    with pytest.raises(UserError, match="index"):
        fingerprint.fingerprint(shards)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe"])
def test_a_memory_that_cannot_be_read_is_begun_anew(tmp_path, cache, content):
    folder = folder_with(tmp_path / "model", weights())
    first = fingerprint.fingerprint(folder)
    (cache / "fingerprints.json").write_bytes(content)
    assert fingerprint.fingerprint(folder) == first
    assert json.loads((cache / "fingerprints.json").read_text())


@pytest.mark.parametrize("keep", [4, 60, 400], ids=["in the length", "in the header", "in the data"])
def test_a_file_that_is_cut_off_is_called_damaged(tmp_path, keep):
    folder = folder_with(tmp_path / "model", {"a": numpy.zeros(1000)})
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError) as caught:
        fingerprint.fingerprint(folder)
    assert caught.value.code == "models.damaged" and "model.safetensors" in str(caught.value)
