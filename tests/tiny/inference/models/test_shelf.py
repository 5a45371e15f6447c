"""The shelf shares weights, makes room, and never gives back what is no longer on the disk."""

import json
import shutil
import threading
from types import SimpleNamespace

import psutil
import pytest
import torch

from core.files import write_json
from inference.models.locate import Shelf, load, locate
from tests.refusals import refused
from tests.tiny.adapters import logits, make_adapter
from tests.tiny_model import make_tiny_model


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESCOPE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def copied(tiny_model, tmp_path):
    """A copy of the tiny model that may be changed."""
    return shutil.copytree(tiny_model, tmp_path / "copied")


def test_base_and_tuned_share_one_copy_on_the_shelf_and_leave_each_other_alone(adapter, tiny_model, owner):
    shelf = Shelf()
    base = shelf.get(locate(str(tiny_model), owner))
    before = logits(base.model)
    tuned = shelf.get(locate(str(adapter), owner))
    assert {id(p) for p in base.model.parameters()} < {id(p) for p in tuned.model.parameters()}
    assert torch.equal(logits(base.model), before) and not torch.equal(logits(tuned.model), before)
    assert torch.equal(logits(tuned.model), logits(load(locate(str(adapter), owner)).model))


def test_an_adapter_that_changes_its_base_gets_a_copy_of_its_own(tiny_model, tmp_path, owner):
    shelf = Shelf()
    base = shelf.get(locate(str(tiny_model), owner))
    before = logits(base.model)
    shelf.get(locate(str(make_adapter(tiny_model, tmp_path / "pissa", init_lora_weights="pissa")), owner))
    assert torch.equal(logits(base.model), before)


def test_everybody_who_asks_at_once_gets_the_same_model(tiny_model, owner):
    shelf, source, got = Shelf(), locate(str(tiny_model), owner), []
    threads = [threading.Thread(target=lambda: got.append(shelf.get(source))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8 and len({id(loaded) for loaded in got}) == 1


def test_the_model_unused_for_longest_leaves_a_full_shelf(tiny_model, other_model, owner):
    shelf = Shelf(places=2)
    first, second = locate(str(tiny_model), owner), locate(str(other_model), owner)
    kept = shelf.get(first)
    dropped = shelf.get(second)
    assert shelf.get(first) is kept
    shelf.get(first, "bfloat16")
    assert len(shelf) == 2 and shelf.get(first) is kept and shelf.get(second) is not dropped


def test_the_shelf_stays_within_its_memory(tiny_model, other_model, owner):
    size = sum(p.numel() * 4 for p in load(locate(str(tiny_model), owner)).model.parameters())
    shelf = Shelf(memory=int(size * 1.5))
    shelf.get(locate(str(tiny_model), owner))
    shelf.get(locate(str(other_model), owner))
    assert len(shelf) == 1


def test_a_model_that_failed_to_load_can_be_asked_for_again(copied, owner):
    shelf, source = Shelf(), locate(str(copied), owner)
    (copied / "tokenizer.json").rename(copied / "away")
    (copied / "tokenizer_config.json").rename(copied / "away too")
    refused("models.no_tokenizer", shelf.get, source)
    (copied / "away").rename(copied / "tokenizer.json")
    (copied / "away too").rename(copied / "tokenizer_config.json")
    assert shelf.get(source).model is not None


def test_a_model_makes_room_for_the_next_where_the_memory_of_the_machine_is_short(
    tiny_model, other_model, owner, monkeypatch
):
    shelf = Shelf()
    shelf.get(locate(str(tiny_model), owner))
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: SimpleNamespace(available=int(len(shelf) < 2) << 40, total=1 << 40)
    )
    assert shelf.get(locate(str(other_model), owner)).name == str(other_model)
    assert len(shelf) == 1


def test_a_model_that_fits_beside_no_other_is_still_refused(tiny_model, other_model, owner, monkeypatch):
    shelf = Shelf()
    shelf.get(locate(str(tiny_model), owner))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=0, total=1 << 40))
    refused("models.no_memory", shelf.get, locate(str(other_model), owner))


def test_a_folder_that_changed_is_loaded_anew(copied, owner):
    shelf = Shelf()
    before = shelf.get(locate(str(copied), owner))
    shutil.rmtree(copied)
    make_tiny_model(copied, seed=2)
    source = locate(str(copied), owner)
    after = shelf.get(source)
    assert after.fingerprint == source.base.fingerprint != before.fingerprint
    assert not torch.equal(logits(after.model), logits(before.model))


def test_an_adapter_that_changed_is_loaded_anew(adapter, tmp_path, owner):
    folder = shutil.copytree(adapter, tmp_path / "changing")
    shelf, source = Shelf(), locate(str(folder), owner)
    before = shelf.get(source)
    assert shelf.get(source) is before
    facts = json.loads((folder / "adapter_config.json").read_text())
    write_json(folder / "adapter_config.json", {**facts, "lora_alpha": 99})
    after = shelf.get(locate(str(folder), owner))
    assert not torch.equal(logits(after.model), logits(before.model))
    (folder / "adapter_model.safetensors").touch()
    assert shelf.get(locate(str(folder), owner)) is not after
