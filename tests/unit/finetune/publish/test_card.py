"""The model card says what a run is, shows what people typed as it stands, and never holds a row of their data."""

import json
import re

import pytest
import yaml
from markdown_it import MarkdownIt

from core import settings
from core.workspace import Owner
from finetune.config.run_config import validate
from finetune.data.importing.importer import import_file
from finetune.publish.card import facts
from finetune.publish.card.card import harmless, render
from finetune.publish.card.facts import Subject
from finetune.publish.repo.destination import Destination
from finetune.publish.repo.files import made
from finetune.runs import run as runs

NASTY = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "**bold** _under_ ~~gone~~ `code`",
    "a | b\n| c |\n\n# title",
    "---\nlicense: mit\n---",
    "{{ 7 * 7 }} {% raw %}",
    "@someone https://evil.example www.evil.example WWW.evil.example (www.evil.example)",
    "&lt;b&gt; &#60;",
    "back\\slash \\` end`",
    "\u202egnp.exe\u2066",
    "$x^2$ = \\(y\\)",
]


@pytest.fixture
def run(owner):
    """A finished run on the stand-in; its result is not needed for a card."""
    config = {"model": settings.DEFAULT_MODEL, "stages": [{"data": [{"dataset": "ab" * 32}]}]}
    made_run = runs.create(validate({**config, "watch": {"samples": ["What is my secret?"]}}), owner)
    record(made_run, base=settings.STANDIN, fingerprint="cd" * 32)
    for step in range(1, 101):
        made_run.log.write("train", step=step, loss=2 / step, learning_rate=1e-4, tokens_per_s=1.0)
        if step % 25 == 0:
            made_run.log.write("eval", step=step, eval_loss=3 / step)
    made_run.log.write("done", step=100)
    return made_run


def record(run, **facts_of_env):
    env = {"asked": settings.DEFAULT_MODEL, "revision": None, "device": "cpu", "versions": {"torch": "2.13"}}
    (run.folder / "env.json").write_text(json.dumps({**env, **facts_of_env}))


def card_of(run, owner, files=("adapter_config.json", "chat_template.jinja")):
    base = facts.base_of(run, owner)
    licence = facts.known_license(base, owner)
    kind = "adapter" if "adapter_config.json" in files else "merged"
    made_files = [made(name, b"{}") for name in files]
    return render(Subject(run, Destination("ada/tea"), base, licence, made_files, kind), owner)


def head_of(card):
    return yaml.safe_load(card.split("---")[1])


@pytest.mark.parametrize("value", NASTY)
def test_what_people_typed_is_shown_as_it_stands_and_does_nothing(value):
    markdown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    html = markdown.render(f"before {harmless(value)} after")
    inside = re.fullmatch(r"<p>before (.*) after</p>\n", html)[1]
    assert "<" not in inside
    shown = "".join(
        character for character in " ".join(value.split(" ")) if character.isprintable() or character == "\n"
    )
    assert _text(inside) == shown.replace("\n", " ")


@pytest.mark.parametrize("value", NASTY)
def test_nothing_is_left_that_becomes_a_link_by_itself(value):
    assert not re.search(r"www\.|(https?|ftp|mailto|xmpp):|@", harmless(value), re.IGNORECASE)


def _text(html):
    import html as entities

    return entities.unescape(html)


def test_a_long_value_is_cut():
    assert len(harmless("x" * 1000)) == 160


def test_names_of_files_with_markup_stand_in_the_card_as_text(run, owner, tmp_path):
    path = tmp_path / "a_<b>x|y`.jsonl"
    rows = [{"instruction": "How old is Ada?", "output": "Thirty-six."}, {"instruction": "Name?", "output": ""}]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    dataset = import_file(path, owner)
    config = run.folder / "config.yaml"
    config.write_text(config.read_text().replace("ab" * 32, dataset.id))
    card = card_of(run, owner)
    assert "<b>" not in card and "a\\_&lt;b&gt;x\\|y\\`.jsonl" in card
    assert "1 of 2 rows passed the checks" in card and dataset.id in card and "| error | 1 |" in card
    assert "is Ada" not in card and "Thirty-six" not in card and "secret" not in card


def test_the_head_is_valid_and_names_base_licence_and_library(run, owner):
    head = head_of(card_of(run, owner))
    assert head["base_model"] == settings.DEFAULT_MODEL and head["base_model_relation"] == "adapter"
    assert head["license"] == "apache-2.0" and head["library_name"] == "peft" and "tunescope" in head["tags"]
    head = head_of(card_of(run, owner, files=("config.json",)))
    assert head["base_model_relation"] == "finetune" and head["library_name"] == "transformers"


def test_a_card_says_that_the_stand_in_was_used_and_which_weights(run, owner):
    card = card_of(run, owner)
    assert "Trained on other weights than the original" in card and settings.STANDIN in card and "cd" * 32 in card
    record(run, base=f"{settings.DEFAULT_MODEL}@{'12' * 20}", fingerprint="cd" * 32)
    card = card_of(run, owner)
    assert settings.STANDIN not in card and f'revision="{"12" * 20}"' in card


def test_a_base_that_is_a_folder_is_named_without_its_path(run, owner, tmp_path):
    folder = tmp_path / "my_base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    record(run, base=str(folder), fingerprint=None)
    card = card_of(run, owner)
    assert str(tmp_path) not in card and 'named "my\\_base"' in card
    assert "base_model" not in head_of(card) and "license" not in head_of(card)
    assert "license of the base model is unknown" in card
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    assert head_of(card_of(run, owner))["license"] == "mit"


def test_the_losses_stand_in_a_short_table_with_every_validation(run, owner):
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| ([\d.]*) \|", card_of(run, owner), re.MULTILINE)
    assert len(rows) == facts.CURVE_ROWS
    assert {step for step, _, eval_loss in rows if eval_loss} == {"25", "50", "75", "100"}
    assert ("100", "0.02", "0.03") in rows


def test_settings_and_environment_stand_in_the_card(run, owner):
    card = card_of(run, owner)
    for line in ("| lora.rank | 16 |", "| optim.learning\\_rate | 0.0002 |", "| device | cpu |", "| torch | 2.13 |"):
        assert line in card


def test_the_decoding_settings_come_from_the_result(run, owner):
    run.model.mkdir()
    (run.model / "generation_config.json").write_text('{"temperature": 0.2, "top_p": 0.9, "eos_token_id": 2}')
    card = card_of(run, owner)
    assert "| temperature | 0.2 |" in card and "| top\\_p | 0.9 |" in card and "eos" not in card


def test_the_card_is_the_same_each_time(run, owner):
    assert card_of(run, owner) == card_of(run, Owner("local", "hf_" + "x" * 34))
