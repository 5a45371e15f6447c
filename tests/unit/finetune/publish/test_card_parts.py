"""The parts of a card: languages, measurements, curves, samples, the config to make it again."""

import io

import pytest
import yaml
from PIL import Image

from core import settings
from finetune.config.run_config import validate
from finetune.methods import METHODS
from finetune.objectives import OBJECTIVES
from finetune.publish.card import facts, measures
from finetune.publish.card.card import render
from finetune.publish.card.facts import Sample, Subject
from finetune.publish.card.languages import languages
from finetune.publish.card.literature import METHOD_NAMES, OBJECTIVE_NAMES, papers_of
from finetune.publish.card.pictures import HEIGHT, WIDTH, Curve, draw, losses, pictures
from finetune.publish.repo.destination import Destination
from finetune.publish.repo.files import made
from finetune.runs import run as runs
from tests.unit.finetune.publish.test_card import card_of, head_of, record, run

__all__ = ["run"]

TEXTS = {
    "en": "How do you make a good cup of tea? You take the leaves and the water, and wait for it to be ready.",
    "de": "Wie macht man eine gute Tasse Tee? Man nimmt die Blätter und das Wasser, und wartet, bis er fertig ist.",
    "fr": "Comment faire une bonne tasse de thé ? Vous prenez les feuilles et de l'eau, et vous attendez.",
    "zh": "怎样泡一杯好茶？取茶叶和水，等它泡好。",
    "ja": "おいしいお茶を入れるには、茶葉とお湯を用意して待ちます。",
    "ko": "좋은 차를 만들려면 찻잎과 물을 준비하고 기다리세요.",
    "ru": "Чтобы заварить хороший чай, возьмите листья и воду и подождите.",
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_language_is_told_by_its_script_or_its_smallest_words(language):
    assert languages([TEXTS[language]] * 3) == [language]


def test_two_languages_are_both_named_and_numbers_are_none():
    assert set(languages([TEXTS["en"], TEXTS["zh"] * 3])) == {"en", "zh"}
    assert languages(["1 + 1 = 2", "x = y", ""]) == [] and languages([]) == []


def test_measurements_stand_in_the_card_and_in_its_head(run, owner):
    card = card_of(run, owner)
    [index] = head_of(card)["model-index"]
    metrics = {metric["type"]: metric["value"] for metric in index["results"][0]["metrics"]}
    assert metrics == {"loss": 0.03, "perplexity": 1.0305}
    assert "| first | 25 | 0.12 | 1.127 |" in card and "| last | 100 | 0.03 | 1.03 |" in card


def test_a_run_that_measured_nothing_says_so(run, owner):
    lines = [line for line in run.log.path.read_text().splitlines() if '"eval"' not in line]
    run.log.path.write_text("\n".join(lines) + "\n")
    card = card_of(run, owner)
    assert "model-index" not in head_of(card) and "was not evaluated on held-out rows" in card


def test_curves_are_pictures_that_are_the_same_each_time(run):
    files = pictures(run)
    assert [file.path for file in files] == ["loss.png", "learning-rate.png"] and pictures(run) == files
    for file in files:
        with Image.open(io.BytesIO(file.content())) as image:
            assert image.format == "PNG" and image.size == (WIDTH, HEIGHT)
            assert len(image.convert("RGB").getcolors(maxcolors=100_000)) > 3


@pytest.mark.parametrize("points", [((1, 2.0),), ((1, 0.0), (2, 0.0)), ((5, -1.0), (9, 3.0)), ((1, 1e-9), (2, 2e-9))])
def test_a_picture_of_anything_can_be_drawn(points):
    assert draw((Curve("loss", points),)).startswith(b"\x89PNG")


def test_the_pictures_stand_in_the_card_when_they_are_there(run, owner):
    assert "loss.png" not in card_of(run, owner)
    assert "![loss by step](./loss.png)" in card_of(run, owner, ("adapter_config.json", "loss.png"))


def test_samples_are_quoted_with_their_strategy_and_do_nothing(run, owner):
    run.log.write("sample", step=50, prompt="Old?", text="old")
    run.log.write("sample", step=100, prompt="Tea?", text="<b>Yes</b>\n\n# of course @you")
    base = facts.base_of(run, owner)
    subject = Subject(run, Destination("ada/tea"), base, facts.known_license(base, owner), [made("x.json", b"{}")])
    subject = Subject(*list(vars(subject).values())[:7], samples=(Sample("Tea?", "Green.", "nucleus top_p=0.9"),))
    card = render(subject, owner)
    assert "**nucleus top\\_p\\=0.9**" in card and "> Green.  " in card and "**greedy**" in card
    assert "> &lt;b&gt;Yes&lt;/b&gt;  \n>   \n> \\# of course &#64;you  " in card and "Old?" not in card


def test_what_differs_from_the_defaults_is_told_with_the_default(owner, run):
    config = validate({"model": "a/b", "stages": [{"data": [{"dataset": "ab" * 32}]}], "lora": {"rank": 4}})
    assert ("lora.rank", "4", "16") in measures.changed_of(config)
    assert measures.changed_of(run.config()) == []


def test_the_config_in_the_card_makes_the_run_again(run, owner):
    card = card_of(run, owner)
    recipe = card.split("```yaml\n")[1].split("\n```")[0]
    again = validate(yaml.safe_load(recipe))
    config = run.config()
    assert again.stages == config.stages and again.optim == config.optim and again.lora == config.lora
    assert "secret" not in recipe and again.model == config.model


def test_the_ways_to_load_it_fit_what_it_is(run, owner):
    card = card_of(run, owner)
    assert "vllm serve" in card and "--enable-lora --lora-modules tea=ada/tea" in card and "PeftModel" in card
    card = card_of(run, owner, ("config.json",))
    assert "vllm serve ada/tea\n" in card and "PeftModel" not in card


STAGES = [
    {"objective": "pretrain", "data": [{"dataset": "ab" * 32}]},
    {"data": [{"dataset": "cd" * 32}], "optim": {"neftune": 5.0, "keep_best": True}},
    {"objective": "dpo", "data": [{"dataset": "ef" * 32}], "dpo": {"loss": "ipo", "beta": 0.2}},
]


@pytest.fixture
def staged(owner):
    """A run of three stages of ten steps each, the second one's best step in its middle."""
    made_run = runs.create(validate({"model": settings.DEFAULT_MODEL, "method": "dora", "stages": STAGES}), owner)
    record(made_run, base=settings.STANDIN, fingerprint="cd" * 32)
    tally = {"rows": 9, "kept": 7, "dropped": 1, "refused": 1, "cut": 2}
    told = [
        {"stage": place, "objective": name, "first_step": 10 * place, "stage_steps": 10}
        | {"rows": 7, "validation_rows": 1, "tally": tally}
        for place, name in enumerate(("pretrain", "sft", "dpo"))
    ]
    log = made_run.log
    log.write("started", step=0, steps=30, stages=told)
    for place, stage in enumerate(told):
        first, level = 10 * place, (3.0, 2.0, 0.5)[place]
        log.write("stage", step=first, **stage)
        log.write("eval", step=first, stage=place, eval_loss=level, **({"begin": True} if place else {}))
        for step in range(first + 1, first + 11):
            log.write("train", step=step, stage=place, loss=level, learning_rate=1e-4, tokens_per_s=1.0)
            if step % 5 == 0:
                log.write("eval", step=step, stage=place, eval_loss=level - (0.25 if step == 15 else 0.125))
        log.write("stage_done", step=first + 10, stage=place, best=15 if place == 1 else None)
    log.write("done", step=30)
    return made_run


def test_a_card_tells_each_stage_with_its_losses_and_the_papers_of_all(staged, owner):
    card = card_of(staged, owner)
    assert "A DoRA adapter for" in card and "Training had 3 stages" in card
    assert "| 1 | continued pretraining |" in card
    rows = [line for line in card.splitlines() if "| 7 of 9 |" in line]
    assert [row.split(" | ")[3:6] for row in rows] == [
        ["10", "3", "2.875"],
        ["10", "2", "1.75"],
        ["10", "0.5", "0.375"],
    ]
    assert "best step (15)" in rows[1] and "last step" in rows[0]
    papers = [line.split(":")[0] for line in card.splitlines() if "arxiv.org" in line]
    assert papers == ["- LoRA", "- DoRA", "- NEFTune", "- IPO"]
    assert "| stage 3&#58; dpo.beta | 0.2 | 0.1 |" in card and "| stage 2&#58; optim.neftune | 5.0 | None |" in card


def test_a_loss_on_preferences_has_no_perplexity_and_is_not_compared_with_another_stages(staged, owner):
    card = card_of(staged, owner)
    assert "| first | 20 | 0.5 |  |" in card and "| last | 30 | 0.375 |  |" in card
    [index] = head_of(card)["model-index"]
    assert [metric["type"] for metric in index["results"][0]["metrics"]] == ["loss"]


def test_the_config_in_the_card_has_all_stages(staged, owner):
    recipe = card_of(staged, owner).split("```yaml\n")[1].split("\n```")[0]
    again = validate(yaml.safe_load(recipe))
    assert again.stages == staged.config().stages and again.method == "dora"


def test_each_stage_has_a_line_of_its_own_in_the_picture(staged):
    names = [line.name for line in losses(staged.progress())]
    assert names == ["1 pretrain", "2 sft", "3 dpo", "validation loss", "", ""]
    assert [line.points[0] for line in losses(staged.progress())][3:] == [(0, 3.0), (10, 2.0), (20, 0.5)]
    assert pictures(staged)[0].path == "loss.png"


def test_a_kept_checkpoint_is_told(staged, owner):
    staged.log.write("queued")
    staged.log.write("done", step=15, steps=30, kept=15)
    card = card_of(staged, owner)
    assert "its checkpoint of step 15" in card and "| last | 15 | 1.75 |" in card


@pytest.mark.parametrize("method", METHODS)
def test_every_method_and_objective_has_its_name(method):
    assert METHOD_NAMES[method] and set(OBJECTIVE_NAMES) == set(OBJECTIVES)
    config = validate({"method": method, "stages": STAGES[:1]})
    assert bool(papers_of(config)) == METHODS[method].adapter
