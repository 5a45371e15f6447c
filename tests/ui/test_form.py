"""The form of a run says what the config says, knob by knob."""

import gradio as gr
import pytest

from core.errors import UserError
from finetune.config import knobs, load_yaml, to_yaml
from ui import form

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


@pytest.fixture
def drawn():
    with gr.Blocks():
        fields = form.draw_basic(knobs()) | form.draw_advanced(knobs())
    return {knob.path: fields[knob.path] for knob in knobs()}


def test_every_knob_has_its_field(drawn):
    assert list(drawn) == [knob.path for knob in knobs()]


def test_the_untouched_form_is_the_default_config(drawn):
    config = form.read(["0123456789ab"], [field.value for field in drawn.values()])
    assert config == load_yaml("stages: [{objective: sft, data: [{dataset: 0123456789ab}]}]")


def test_a_config_fills_the_form_and_comes_back_the_same():
    config = load_yaml(YAML)
    assert form.read(["0123456789ab"], form.fill(config)) == config
    assert load_yaml(to_yaml(form.read(["0123456789ab"], form.fill(config)))) == config


def test_several_datasets_are_one_mix():
    config = form.read(["0123456789ab", "ba9876543210"], form.fill(load_yaml(YAML)))
    assert [source.dataset for source in config.stages[0].data] == ["0123456789ab", "ba9876543210"]


def test_settings_of_a_method_that_is_not_chosen_do_not_count():
    values = dict(zip([knob.path for knob in knobs()], form.fill(load_yaml(YAML)), strict=True))
    values["method"] = "full"
    assert form.read(["0123456789ab"], list(values.values())).lora is None
    assert not any(update["visible"] for update in form.visibility({"method": "full"}))
    shown = [knob.path for knob in knobs() if knob.shown_when]
    visible = [update["visible"] for update in form.visibility({"method": "loraplus"})]
    assert [path for path, seen in zip(shown, visible, strict=True) if seen] == [
        path for path in shown if path.startswith(("lora.", "loraplus."))
    ]


@pytest.mark.parametrize(
    ("path", "value"), [("optim.epochs", None), ("optim.learning_rate", "fast"), ("lora.rank", 1.5)]
)
def test_what_is_wrong_is_named(path, value):
    values = dict(zip([knob.path for knob in knobs()], form.fill(load_yaml(YAML)), strict=True))
    with pytest.raises(UserError, match=path.replace(".", r"\.")):
        form.read(["0123456789ab"], list((values | {path: value}).values()))


def test_without_data_the_form_says_where_to_get_some():
    with pytest.raises(UserError, match="Data tab"):
        form.read([], [knob.default for knob in knobs()])
