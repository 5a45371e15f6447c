"""A record and a link tell every model of a comparison, and of a rerun which one is another."""

import shutil
from dataclasses import asdict, replace

import pytest

from core.errors import UserError
from inference.compare.provenance import pinned, read_models
from inference.compare.record import (
    changes,
    link_of,
    link_origin,
    read_link,
    record_of,
    request_of_record,
    rerun_sentences,
    same_request,
)
from inference.compare.request import CompareRequest
from inference.compare.service import run_comparison
from inference.models.cache import Shelf
from tests.tiny.adapters import make_adapter


@pytest.fixture(scope="module")
def second(tiny_model, tmp_path_factory):
    """Another adapter on the same base, with other weights."""
    return make_adapter(tiny_model, tmp_path_factory.mktemp("second"), r=2)


@pytest.fixture
def ran(owner, tiny_model, other_model, adapter, second):
    """A comparison on a base, two adapters on it, and another model."""
    lines = ["greedy", "greedy model=base", f"greedy model={second}", f"beam model={other_model}", "sample"]
    request = CompareRequest(str(tiny_model), lines, "tea?", adapter=str(adapter), max_new_tokens=4)
    return request, _result(request, owner)


def _result(request, owner):
    return list(run_comparison(request, owner, Shelf()))[-1].result


def test_every_model_of_the_columns_is_told(ran, tiny_model, other_model, adapter, second):
    tuned, base, other_adapter, other = ran[1].to_json()["models"]
    assert [entry["columns"] for entry in (tuned, base, other_adapter, other)] == [[0, 4], [1], [2], [3]]
    assert tuned["fingerprint"] == base["fingerprint"] == other_adapter["fingerprint"] != other["fingerprint"]
    assert [entry["name"] for entry in (tuned, base, other)] == [str(tiny_model), str(tiny_model), str(other_model)]
    assert base["adapter"] is None is other["adapter"]
    assert [tuned["adapter"]["name"], other_adapter["adapter"]["name"]] == [str(adapter), str(second)]
    assert tuned["adapter"]["fingerprint"] != other_adapter["adapter"]["fingerprint"]
    assert all(len(entry["fingerprint"]) == 64 for entry in (tuned, tuned["adapter"], other))


def test_a_rerun_says_which_model_is_another(ran, owner, other_model, second, tmp_path):
    """The adapter of one column and the weights of another are exchanged under their names."""
    request, _ = ran
    places = {str(second): tmp_path / "adapter", str(other_model): tmp_path / "model"}
    lines = request.columns
    for old, new in places.items():
        shutil.copytree(old, new)
        lines = [line.replace(old, str(new)) for line in lines]
    request = replace(request, columns=lines)
    record, made = (make(_result(request, owner)) for make in (lambda result: record_of(request, result), link_origin))
    assert rerun_sentences(record, _result(request, owner)) == ["All 5 columns have the same tokens as the record."]
    make_adapter(request.model, places[str(second)], r=2, lora_alpha=64, target_modules=["q_proj"])
    _scale(places[str(other_model)])
    now = _result(request, owner)
    for told in (rerun_sentences(record, now)[1:], changes(made, now)):
        assert len(told) == 2, told
        assert f"{tmp_path / 'adapter'} (columns 3)" in told[0] and f"{tmp_path / 'model'} (columns 4)" in told[1]
        assert (
            record["models"][3]["fingerprint"][:16] in told[1]
            and now.origin["models"][3]["fingerprint"][:16] in told[1]
        )


def _scale(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= 1.5
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_a_link_to_what_was_run_brings_back_request_and_models(ran):
    request, result = ran
    again, made = read_link(link_of(request, link_origin(result)))
    assert again == request and changes(made, result) == []
    other = replace(result, dtype="bfloat16", origin={**result.origin, "prompt_ids": [1]})
    assert [sentence[:30] for sentence in changes(made, other)] == [
        "Note: the tokens of the prompt", "Note: computed in bfloat16; th",
    ]  # fmt: skip
    assert read_link(link_of(request)) == (request, None)


def test_no_room_for_the_models_leaves_the_link_without_them(ran):
    request, result = ran
    made = link_origin(result)
    for place, entry in enumerate(made["models"]):
        entry["name"] = "".join(chr(0x4E00 + (number * 7919 + place) % 20_000) for number in range(1500))
    assert read_link(link_of(request, made)) == (request, None)


def _entry(columns, name, revision, adapter=None):
    return {"columns": columns, "name": name, "revision": revision, "fingerprint": "0" * 64, "adapter": adapter}


def _adapter(name, revision):
    return {"name": name, "revision": revision, "base": "a/base", "fingerprint": "1" * 64}


def test_every_reference_is_pinned_to_its_own_revision():
    lines = [
        "greedy",
        "greedy model=base",
        'nucleus stop="a b" model=e/f top_p=0.5',
        "beam model=g/h",
        "dry model=e/f@v1",
    ]
    request = CompareRequest("a/base", lines, "hi", adapter="c/d")
    models = [
        _entry([0], "a/base", "aaaa", _adapter("c/d", "cccc")),
        _entry([1], "a/base", "aaaa"),
        _entry([2], "e/f", "eeee"),
        _entry([3], "a/base", "bbbb", _adapter("g/h", "hhhh")),
        _entry([4], "e/f", "ffff"),
    ]
    there = pinned(request, models)
    assert (there.model, there.adapter) == ("a/base@aaaa", "c/d@cccc")
    assert there.columns == [
        "greedy", "greedy model=base", 'nucleus stop="a b" top_p=0.5 model=e/f@eeee', "beam model=g/h@hhhh",
        "dry model=e/f@v1",
    ]  # fmt: skip
    assert request_of_record({"request": asdict(request), "models": models}) == there
    assert pinned(there, models) == there


def test_the_base_of_an_adapter_does_not_pin_the_adapter():
    request = CompareRequest("c/d", ["greedy model=base", "beam model=x/y"], "hi")
    models = [_entry([0], "a/base", "aaaa"), _entry([1], "x/y", "c/d")]
    assert pinned(request, models).model == "c/d"


@pytest.mark.parametrize(
    "models",
    [None, {}, [3], [{}], [_entry("0", "a", None)], [_entry([True], "a", None)], [_entry([0], 3, None)],
     [_entry([0], "a", 7)], [_entry([0], "a", None, {})], [_entry([0], "a", None)] * 13],
)  # fmt: skip
def test_models_of_another_form_are_refused(models):
    with pytest.raises(UserError, match="models"):
        read_models(models)


def test_the_same_columns_written_in_another_way_are_alike():
    one = CompareRequest("a/b", ["nucleus top_p=0.5  model=base", "greedy"], "hi")
    assert same_request(one, replace(one, columns=["nucleus model=base top_p=0.50", "greedy"]))
    assert not same_request(one, replace(one, columns=["nucleus model=base top_p=0.51", "greedy"]))
    assert not same_request(one, replace(one, seed=1))
