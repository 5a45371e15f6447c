"""A config goes into the form and out of it, from the page alone."""

import pytest
import yaml
from playwright.sync_api import expect

from tests.tiny.stages import write_pairs, write_texts
from tests.tiny.training import write_data
from tests.ui.conftest import picture
from tests.ui.test_loop import open_tab, unfold

pytestmark = pytest.mark.browser


def open_form(tab):
    open_tab(tab, "Fine-tune")
    unfold(tab, "YAML and shell")


def choose_method(tab, name):
    tab.locator("#knob-method input").click()
    tab.get_by_role("option", name=name, exact=True).click()


def test_an_uploaded_yaml_fills_the_form_and_is_shown_again(tab, tmp_path, tiny_model):
    data = tmp_path / "tea.jsonl"
    data.write_text('{"prompt": "How?", "completion": "So."}\n{"prompt": "When?", "completion": "Now."}\n')
    config = tmp_path / "config.yaml"
    told = {"model": str(tiny_model), "optim": {"epochs": 5, "learning_rate": 0.001}, "lora": {"rank": 3}, "seed": 4}
    config.write_text(yaml.safe_dump(told | {"stages": [{"objective": "sft", "data": [{"path": str(data)}]}]}))
    open_form(tab)
    tab.locator("#as-yaml input[type=file]").set_input_files(config)
    tab.locator("#train-answer .ts-good").wait_for()
    expect(tab.locator("#knob-lora-rank input")).to_have_value("3")
    expect(tab.locator("#knob-optim-learning_rate input")).to_have_value("0.001")
    tab.locator("#show-yaml").click()
    tab.get_by_text("python -m finetune start config.yaml").wait_for()
    expect(tab.locator("#as-yaml")).to_contain_text("rank: 3")


def test_reading_the_data_of_an_uploaded_yaml_is_shown_and_can_be_stopped(tab, tmp_path):
    """The file is large enough to be still under way when somebody looks and presses Stop. Whichever sees that first,
    the import or the page's job, says it."""
    row = '{"prompt": "How is tea number %d made?", "completion": "' + "Slowly. " * 20 + '"}\n'
    (tmp_path / "large.jsonl").write_text("".join(row % number for number in range(400_000)))
    config = tmp_path / "large.yaml"
    config.write_text("seed: 77\nstages: [{data: [{path: %s}]}]\n" % (tmp_path / "large.jsonl"))
    open_form(tab)
    tab.locator("#as-yaml input[type=file]").set_input_files(config)
    tab.locator("#train-answer").get_by_text("reading large.jsonl").wait_for()
    picture(tab, "yaml-reading")
    tab.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
    by_import, by_page = "Stopped. No incomplete files were left behind.", "Stopped. Nothing was saved."
    tab.get_by_text(by_import).or_(tab.get_by_text(by_page)).first.wait_for()
    expect(tab.locator("#train-answer")).not_to_contain_text("reading large.jsonl")
    expect(tab.locator("#train-on")).not_to_contain_text("large.jsonl")


def test_full_fine_tuning_hides_the_settings_of_lora(tab):
    open_form(tab)
    choose_method(tab, "lora")
    tab.locator("#knob-lora-rank").wait_for()
    unfold(tab, "More settings")
    tab.locator("#group-adapter h3").wait_for()
    choose_method(tab, "full")
    tab.locator("#knob-lora-rank").wait_for(state="hidden")
    headings = [heading.inner_text() for heading in tab.locator(".ts-group h3:visible").all()]
    assert headings == ["Objective", "Data", "Optimizer", "Compute", "Logging"]


@pytest.mark.ci
def test_every_setting_has_room_beside_the_others(tab):
    """At 1280 pixels, a scroll bar among them: a check mark as wide as a field, and eight basic settings in one row."""
    open_form(tab)
    choose_method(tab, "lora")
    tab.locator("#knob-lora-rank").wait_for()
    unfold(tab, "More settings")
    tab.locator("#knob-seed").wait_for()
    tab.wait_for_function("document.querySelector('.ts-advanced [id^=knob-]').getBoundingClientRect().width > 200")
    tab.set_viewport_size({"width": 1265, "height": 800})
    boxes = [field.bounding_box() for field in tab.locator(".ts-advanced [id^=knob-]:visible").all()]
    assert min(box["width"] for box in boxes) > 200
    basic = [field.bounding_box() for field in tab.locator(".ts-basic [id^=knob-]:visible").all()]
    assert len(basic) == 8 and len({box["y"] for box in basic}) == 1


@pytest.fixture
def files(tmp_path):
    """Data of each kind, and the stages that name it."""
    data = {
        "pretrain": write_texts(tmp_path / "texts.jsonl"),
        "sft": write_data(tmp_path / "chats.json"),
        "dpo": write_pairs(tmp_path / "pairs.jsonl"),
    }
    return {objective: {"objective": objective, "data": [{"path": str(path)}]} for objective, path in data.items()}


@pytest.mark.ci
def test_stages_of_a_yaml_fill_their_fields_and_a_preset_takes_the_data_that_fits(tab, tmp_path, files):
    config = tmp_path / "staged.yaml"
    dpo = {**files["dpo"], "dpo": {"beta": 0.3}, "optim": {"epochs": 2}}
    config.write_text(yaml.safe_dump({"stages": [files["pretrain"], files["sft"], dpo], "optim": {"epochs": 1}}))
    open_form(tab)
    tab.locator("#as-yaml input[type=file]").set_input_files(config)
    tab.locator("#train-answer .ts-good").wait_for()
    expect(tab.locator("#objective input")).to_have_value("Continued pretraining")
    unfold(tab, "Further stages")
    expect(tab.locator("#stage-2-objective input")).to_have_value("Supervised fine-tuning (SFT)")
    expect(tab.locator("#stage-3-dpo-beta input")).to_have_value("0.3")
    expect(tab.locator("#stage-3-epochs textarea, #stage-3-epochs input")).to_have_value("2")
    expect(tab.locator("#stage-3-data")).to_contain_text("pairs.jsonl")
    expect(tab.locator("#stage-3-sft-learn")).to_be_hidden()
    picture(tab, "further-stages")
    tab.locator("#preset input").click()
    tab.get_by_role("option", name="Preferences (IPO)").click()
    expect(tab.locator("#train-answer")).to_contain_text("Preferences (IPO)")
    expect(tab.locator("#objective input")).to_have_value("Preference optimization (DPO)")
    expect(tab.locator("#train-on")).to_contain_text("preference")
    tab.locator("#show-yaml").click()
    expect(tab.locator("#as-yaml")).to_contain_text("loss: ipo")


@pytest.mark.ci
def test_a_yaml_that_the_form_cannot_show_is_kept_and_said_until_one_goes_back(tab, tmp_path, files):
    config = tmp_path / "more.yaml"
    stages = [files["pretrain"], {**files["sft"], "optim": {"batch_size": 3}}]
    config.write_text(yaml.safe_dump({"stages": stages}))
    open_form(tab)
    tab.locator("#as-yaml input[type=file]").set_input_files(config)
    tab.locator("#kept .ts-warn").wait_for()
    expect(tab.locator("#settings")).to_be_hidden()
    expect(tab.locator("#train-on")).to_be_hidden()
    expect(tab.locator("#as-yaml")).to_contain_text("batch_size: 3")
    tab.locator("#back-to-form").click()
    expect(tab.locator("#settings")).to_be_visible()
    expect(tab.locator("#kept")).to_be_hidden()
    expect(tab.locator("#train-on")).to_contain_text("texts.jsonl")
