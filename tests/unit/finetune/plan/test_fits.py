"""What fits into a machine: in order, with figures that can be followed."""

from dataclasses import replace

import pytest

from finetune.base_models.suggested import SUGGESTED, Model
from finetune.plan.fit import WAYS, Here, facts, fits

SMOL, SMOL_LARGE = SUGGESTED[0], SUGGESTED[2]
LAPTOP = Here("cpu", 16e9, 4, 2)
GPU = Here("cuda", 24e9, 2, 2)


def words(model, here):
    return {one.way: one.word for one in fits(model, here)}


def needed(model, here):
    return {one.way: one.needed for one in fits(model, here)}


def test_a_small_model_fits_everywhere():
    assert words(SMOL, LAPTOP) == words(SMOL, GPU) == dict.fromkeys(WAYS, "fits")


def test_on_a_cpu_a_model_to_compare_is_kept_twice_where_there_is_room():
    weights = SMOL_LARGE.parameters * 4
    roomy, narrow, none = (replace(LAPTOP, free=weights * share) for share in (3, 1.5, 0.9))
    assert needed(SMOL_LARGE, roomy)["compare"] == 2 * weights
    assert [words(SMOL_LARGE, here)["compare"] for here in (roomy, narrow, none)] == ["fits", "tight", "no"]
    assert needed(SMOL_LARGE, narrow)["compare"] == weights


def test_on_a_gpu_it_is_kept_once():
    assert needed(SMOL_LARGE, GPU)["compare"] == pytest.approx(SMOL_LARGE.parameters * 2, rel=0.2)


def test_what_trains_more_needs_more():
    found = needed(SUGGESTED[6], replace(GPU, free=1e12))
    assert found["qlora"] < found["lora"] < found["full"]
    assert found["full"] > 14 * SUGGESTED[6].parameters
    assert found["lora"] > 2 * SUGGESTED[6].parameters


def test_less_free_memory_is_never_kinder():
    order = {"fits": 0, "tight": 1, "no": 2}
    for model in SUGGESTED:
        for way in WAYS:
            seen = [order[words(model, replace(GPU, free=free))[way]] for free in (1e12, 80e9, 24e9, 8e9, 1e9)]
            assert seen == sorted(seen), (model.name, way)


def test_tight_is_what_fits_with_smaller_batches_alone():
    roomy = needed(SMOL_LARGE, replace(GPU, free=1e12))["lora"]
    tight = replace(GPU, free=roomy)
    assert words(SMOL_LARGE, tight)["lora"] == "tight"
    assert needed(SMOL_LARGE, tight)["lora"] < roomy


def test_what_the_machine_cannot_do_is_said():
    bare = replace(GPU, four_bit=False)
    assert words(SMOL, bare) == {"compare": "fits", "lora": "fits", "qlora": "missing", "full": "fits"}
    lent = replace(GPU, trains=False)
    assert words(SMOL, lent) == {"compare": "fits", "lora": "missing", "qlora": "missing", "full": "missing"}


def test_of_a_model_whose_weights_nobody_counted_nothing_is_said():
    assert set(words(Model("ada/some"), GPU).values()) == {"unknown"}


def test_a_model_of_unknown_shape_is_judged_by_its_weights():
    plain = replace(SMOL_LARGE, sizes=None)
    assert needed(plain, GPU) == needed(SMOL_LARGE, GPU)


def test_the_facts_are_plain_values():
    told = facts(SMOL, LAPTOP)
    assert told["name"] == SMOL.name and told["languages"] == ["en"] and "sizes" not in told
    assert told["here"]["compare"] == {"fits": "fits", "gb": round(2 * SMOL.parameters * 4 / 1e9, 2)}
