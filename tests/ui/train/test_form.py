"""The form of a run says what the config says, knob by knob and stage by stage, or keeps it as it is."""

import gradio as gr
import pytest

from core.errors import UserError
from core.words import LOCALES, catalogue
from finetune.config.presets import PRESETS
from finetune.config.run_config import GROUPS, knobs, load_yaml, stage_knobs, to_yaml
from finetune.data.importing.importer import import_file
from tests.tiny.stages import write_pairs, write_texts
from tests.tiny.training import write_data
from ui.train import form, stages_form

YAML = """
model: ada/some-model
stages: [{objective: sft, data: [{dataset: 0123456789ab}]}]
limits: {max_rows: 96, max_length: 512, validation: 0.1}
method: lora
lora: {rank: 4, alpha: 8}
optim: {epochs: 1, learning_rate: 2.0e-4, batch_size: 2}
watch: {samples: ["Who are you?", "What is tea?"]}
seed: 3
"""


STAGED = """
model: ada/some-model
stages:
- {objective: pretrain, data: [{dataset: 0123456789ab}], pretrain: {packing: false}}
- {data: [{dataset: ba9876543210}, {dataset: cccccccccccc}], sft: {learn: last-answer}, optim: {epochs: 2}}
- {objective: dpo, data: [{dataset: dddddddddddd}], dpo: {loss: ipo, beta: 0.25}, optim: {learning_rate: 1.5e-6}}
optim: {epochs: 1, learning_rate: 1.23456789e-4}
"""
MORE_THAN_THE_FORM = {
    "four stages": STAGED.replace("optim: {epochs: 1,", "- {data: [{dataset: ffffffffffff}]}\noptim: {epochs: 1,"),
    "a batch size of one stage": STAGED.replace("optim: {epochs: 2}", "optim: {batch_size: 2}"),
    "a prompt of two lines": STAGED + 'watch: {samples: ["Who\\nare you?"]}',
    "data that is not imported": STAGED.replace("dataset: dddddddddddd", "hub: ada/pairs"),
}


@pytest.fixture
def drawn():
    with gr.Blocks():
        fields = form.draw_basic(knobs()) | form.draw_advanced(knobs())
    return {knob.path: fields[knob.path] for knob in knobs()}


@pytest.fixture
def stages():
    with gr.Blocks():
        first = stages_form.StageFields(
            stages_form.draw_objective("objective", "sft"), stages_form.draw_settings("first", "sft"), gr.HTML()
        )
        return stages_form.Stages(first, stages_form.draw_further())


def test_every_knob_has_its_field(drawn):
    assert list(drawn) == [knob.path for knob in knobs()]


def group_of(block):
    """The id of the group that a field is drawn in."""
    while block is not None and not (block.elem_id or "").startswith("group-"):
        block = block.parent
    return block and block.elem_id


def test_every_advanced_knob_stands_under_the_heading_of_its_group(drawn):
    advanced = [knob for knob in knobs() if knob.tier != "basic"]
    under = {path: group_of(field) for path, field in drawn.items() if group_of(field)}
    assert under == {knob.path: f"group-{knob.group}" for knob in advanced}
    headings = {knob.group for knob in [*advanced, *stage_knobs()]}
    assert headings == set(GROUPS.values())
    assert all(catalogue(language)[f"config.group.{name}"] for name in headings for language in LOCALES)


def test_the_untouched_form_is_the_default_config(drawn, stages):
    fields = {**drawn, **stages.inputs}
    config = form.read(["0123456789ab"], {name: field.value for name, field in fields.items()})
    assert config == load_yaml("stages: [{objective: sft, data: [{dataset: 0123456789ab}]}]")


def test_every_field_of_the_form_is_filled(drawn, stages):
    assert set(form.fill(load_yaml(YAML))) == {*drawn, *stages.inputs, form.KEPT}


def test_a_config_fills_the_form_and_comes_back_the_same():
    config = load_yaml(YAML)
    assert form.read(["0123456789ab"], form.fill(config)) == config
    assert load_yaml(to_yaml(form.read(["0123456789ab"], form.fill(config)))) == config


def test_several_datasets_are_one_mix():
    config = form.read(["0123456789ab", "ba9876543210"], form.fill(load_yaml(YAML)))
    assert [source.dataset for source in config.stages[0].data] == ["0123456789ab", "ba9876543210"]


def test_settings_of_a_method_that_is_not_chosen_do_not_count():
    values = form.fill(load_yaml(YAML))
    values["method"] = "full"
    assert form.read(["0123456789ab"], values).lora is None
    assert not any(update["visible"] for update in form.visibility({"method": "full"}).values())
    shown = [knob.path for knob in knobs() if knob.shown_when]
    visible = form.visibility({"method": "loraplus"})
    assert list(visible) == shown
    assert [path for path in shown if visible[path]["visible"]] == [
        path for path in shown if path.startswith(("lora.", "loraplus."))
    ]


@pytest.mark.parametrize(
    ("path", "value"), [("optim.epochs", None), ("optim.learning_rate", "fast"), ("lora.rank", 1.5)]
)
def test_what_is_wrong_is_named(path, value):
    values = form.fill(load_yaml(YAML))
    values[path] = value
    with pytest.raises(UserError, match=path.replace(".", r"\.")):
        form.read(["0123456789ab"], values)


def test_without_data_the_form_says_where_to_get_some():
    with pytest.raises(UserError, match="Data tab"):
        form.read([], form.fill(load_yaml(YAML)))


def test_stages_fill_the_form_and_come_back_with_the_same_effect():
    config = load_yaml(STAGED)
    values = form.fill(config)
    assert values[form.KEPT] is None
    again = form.read(["0123456789ab"], values)
    assert [stage.data for stage in again.stages] == [stage.data for stage in config.stages]
    assert [stage.settings for stage in again.stages] == [stage.settings for stage in config.stages]
    assert [again.optim_of(stage) for stage in again.stages] == [config.optim_of(stage) for stage in config.stages]
    assert load_yaml(to_yaml(again)) == again


def test_a_further_stage_without_a_learning_rate_has_it_chosen_whatever_the_first_one_says():
    values = form.fill(load_yaml(STAGED.replace(", optim: {learning_rate: 1.5e-6}", ", optim: {learning_rate: null}")))
    config = form.read(["0123456789ab"], values)
    assert [config.optim_of(stage).learning_rate for stage in config.stages] == [1.23456789e-4, 1.23456789e-4, 1e-5]
    assert load_yaml(to_yaml(config)).optim_of(config.stages[2]).learning_rate == 1e-5


@pytest.mark.parametrize("what", MORE_THAN_THE_FORM)
def test_what_the_form_cannot_show_is_kept_as_it_is(what):
    config = load_yaml(MORE_THAN_THE_FORM[what])
    values = form.fill(config)
    assert values[form.KEPT]
    assert form.read(None, values) == config


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_shown_by_the_form(name):
    preset = PRESETS[name]
    config = preset.config([[{"dataset": "ab" * 6}]] * len(preset.stages))
    values = form.fill(config)
    assert values[form.KEPT] is None and form.read(["ab" * 6], values).stages == config.stages


@pytest.mark.parametrize(
    ("lacks", "empty", "code"), [("data", [], "page.stage_data"), ("objective", None, "page.stage_objective")]
)
def test_a_stage_of_which_half_is_there_is_named(lacks, empty, code):
    values = form.fill(load_yaml(STAGED))
    values[stages_form.field_name(2, lacks)] = empty
    with pytest.raises(UserError) as caught:
        form.read(["0123456789ab"], values)
    assert caught.value.code == code and "3" in str(caught.value)


def test_a_setting_of_an_objective_out_of_its_bounds_is_named_with_its_stage():
    values = form.fill(load_yaml(STAGED))
    values[stages_form.setting_name(2, "stages.dpo.beta")] = 0
    with pytest.raises(UserError, match=r"stages\.2\.dpo\.beta"):
        form.read(["0123456789ab"], values)


def test_only_objectives_that_learn_from_the_chosen_data_are_offered(owner, tmp_path):
    chats = import_file(write_data(tmp_path / "chats.json"), owner).id
    pairs = import_file(write_pairs(tmp_path / "pairs.jsonl"), owner).id
    texts = import_file(write_texts(tmp_path / "texts.jsonl"), owner).id
    for data, objective, offered, value in (
        ([chats], "sft", ["sft"], "sft"),
        ([pairs], "sft", ["dpo"], "dpo"),
        ([texts], "sft", ["sft", "pretrain"], "sft"),
        ([texts], None, ["sft", "pretrain"], "pretrain"),
        ([chats, texts], "dpo", ["sft"], "sft"),
    ):
        update, told = stages_form.fit(owner, data, objective)
        assert [key for _, key in update["choices"]] == offered and update["value"] == value and told == ""
    update, told = stages_form.fit(owner, [chats, pairs], "sft")
    assert "chat, preference" in told and update["value"] == "sft"
