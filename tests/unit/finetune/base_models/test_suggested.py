"""The suggested models: what stands in the table holds together."""

import pytest

from finetune.base_models.network import network_of
from finetune.base_models.suggested import SIZE_BOUNDS, SUGGESTED, TASKS, languages, matching, nearest
from finetune.publish.card.licenses import chosen

LICENSES = {"apache-2.0", "mit", "llama3.2", "gemma", "lfm1.0"}


def test_no_model_is_named_twice():
    names = [model.name for model in SUGGESTED]
    assert len(names) == len(set(names)) >= 15


@pytest.mark.parametrize("model", SUGGESTED, ids=lambda model: model.name)
def test_an_entry_is_whole_and_plausible(model):
    assert model.name.count("/") == 1 and model.name == model.name.strip()
    assert model.task in TASKS
    assert model.licence in LICENSES and chosen(model.licence).key == model.licence
    assert model.context and 1024 <= model.context <= 1_048_576
    assert model.languages and all(len(code) == 2 and code.islower() for code in model.languages)
    assert model.parameters and 1e8 < model.parameters < 1e10
    assert model.obstacle is None


@pytest.mark.parametrize("model", [model for model in SUGGESTED if model.sizes], ids=lambda model: model.name)
def test_the_weights_follow_from_the_sizes(model):
    """But for biases and the norms that an architecture has more than Llama's."""
    assert network_of(model.sizes).total == pytest.approx(model.parameters, rel=1e-3)


def test_every_licence_that_asks_for_consent_has_its_gate():
    assert all(model.gated == (model.licence in ("llama3.2", "gemma")) for model in SUGGESTED)


def test_each_task_and_size_has_a_suggestion():
    assert all(matching(SUGGESTED, task=task) for task in TASKS)
    assert all(matching(SUGGESTED, size=size) for size in SIZE_BOUNDS)
    assert sum(len(matching(SUGGESTED, size=size)) for size in SIZE_BOUNDS) == len(SUGGESTED)


def test_filters_add_up():
    found = matching(SUGGESTED, "chat", "small", "zh")
    assert "Qwen/Qwen2.5-1.5B-Instruct" in [model.name for model in found]
    assert all(m.task == "chat" and "zh" in m.languages and 0.5e9 <= m.parameters < 2e9 for m in found)
    assert matching(SUGGESTED) == list(SUGGESTED)


def test_languages_begin_with_the_page_s():
    assert languages()[:2] == ["en", "zh"] and languages()[2:] == sorted(languages()[2:])


def test_a_model_of_unknown_shape_is_taken_for_one_of_its_size():
    assert nearest(140_000_000) == SUGGESTED[0].sizes
    assert nearest(70_000_000_000).width == 4096
