"""Which texts of a comparison may stand in a card, and that none of them does anything there."""

import html
import json
import re
from dataclasses import asdict

import numpy
import pytest
from markdown_it import MarkdownIt
from safetensors.numpy import save_file

from core.workspace import Owner
from finetune.publish.card import facts
from finetune.publish.card.card import render
from finetune.publish.card.facts import Sample, Subject
from finetune.publish.card.samples import samples_of
from finetune.publish.repo.destination import Destination
from finetune.publish.repo.files import made
from inference.compare.request import CompareRequest
from inference.models.fingerprint import file_fingerprint, fingerprint
from inference.models.hub_files import ADAPTER_WEIGHTS
from tests.refusals import refused
from tests.unit.finetune.publish.test_card import NASTY, record, run

__all__ = ["run"]

BASE, OTHER = "cd" * 32, "ef" * 32
BLOCKS = [
    "Title\n===\nmore",
    "Title\n---\nmore",
    "- one\n- two\n\n1. first\n2. second\n3) third\n+ plus\n* star",
    "    code\n\tmore code\n```\nfence\n~~~",
    "a | b\n--|--\n1 | 2",
    "--\n---\n- - -\n***\n___",
    "> quoted\n>> twice",
    "3.14 is\n2026-08-01 and\n12",
    "[a]: https://evil.example\n[a]",
    "<!-- hidden\n-->",
    "\n\n# deep\n\n\n\n   ## in",
]


def adapter_run(run):
    run.model.mkdir()
    (run.model / "adapter_config.json").write_text("{}")
    save_file({"lora_A": numpy.ones((2, 3), numpy.float32)}, run.model / "adapter_model.safetensors")
    return file_fingerprint(run.model / ADAPTER_WEIGHTS)


def full_run(run):
    run.model.mkdir()
    save_file({"head": numpy.ones((2, 3), numpy.float32)}, run.model / "model.safetensors")
    return fingerprint(run.model)


def compared(*columns, prompt="Tea?", **request):
    """A record of columns, each (line, base, adapter, text, how it ended)."""
    lines = [column[0] for column in columns]
    asked = asdict(CompareRequest("acme/tea", lines, None if "messages" in request else prompt, **request))
    told = [{"name": line, "text": text, "finish": finish} for line, _, _, text, finish in columns]
    models = [on_model(place, base, adapter) for place, (_, base, adapter, _, _) in enumerate(columns)]
    return json.loads(json.dumps({"request": asked, "columns": told, "models": models}))


def on_model(place, base, adapter):
    on = adapter and {"name": "ada/tuned", "revision": None, "base": "acme/tea", "fingerprint": adapter}
    return {"columns": [place], "name": "acme/tea", "revision": None, "fingerprint": base, "adapter": on}


def test_the_texts_of_this_run_come_first_and_its_base_stands_beside(run):
    mine = adapter_run(run)
    told = compared(
        ("greedy model=base", BASE, None, "Base.", "eos"),
        ("nucleus  temperature=0.70 model=/home/ada/run seed=3", BASE, mine, "Mine.", "length"),
        ("greedy model=x/y", BASE, "12" * 32, "Another adapter.", "eos"),
        ("greedy model=x/z", OTHER, None, "Another base.", "eos"),
        ("greedy model=x/w", OTHER, mine, "On another base.", "eos"),
        ('beam num_beams=2 stop="a b"', BASE, mine, "Stopped by its word.", "stop"),
        ("min_p", BASE, mine, "Cut o", "cancelled"),
        ("top_k", BASE, mine, "", "error"),
    )
    assert samples_of(told, run, "c.json") == (
        Sample("Tea?", "Mine.", "nucleus top_p=0.9 temperature=0.70 seed=3"),
        Sample("Tea?", "Stopped by its word.", 'beam num_beams=2 length_penalty=1.0 early_stopping=false stop="a b"'),
        Sample("Tea?", "Base.", "greedy", base=True),
    )


def test_a_run_of_all_weights_is_told_by_them(run):
    mine = full_run(run)
    told = compared(("greedy", mine, None, "Mine.", "eos"), ("greedy model=a/b", BASE, None, "Base.", "eos"))
    assert [(one.text, one.base) for one in samples_of(told, run, "c")] == [("Mine.", False), ("Base.", True)]
    assert "c.json" in refused("publish.samples_base", samples_of, compared(told_base()), run, "c.json")


def told_base(text="Base."):
    return ("greedy model=base", BASE, None, text, "eos")


@pytest.mark.parametrize(
    ("columns", "code", "part"),
    [
        ([told_base()], "publish.samples_base", "only its base model"),
        ([("greedy", OTHER, None, "x", "eos")], "publish.samples_other", '"acme/tea"'),
        ([("greedy", BASE, "12" * 32, "x", "eos")], "publish.samples_other", "other models"),
        ([("greedy", BASE, "mine", "x", "cancelled"), told_base()], "publish.samples_unwritten", "stopped"),
        ([("greedy", BASE, "mine", " \n", "eos")], "publish.samples_unwritten", "are empty"),
        ([("greedy", BASE, "mine", "\ud800", "eos")], "publish.samples_unwritten", "are empty"),
    ],
)
def test_a_comparison_in_which_the_run_wrote_nothing_is_refused_in_a_sentence(run, columns, code, part):
    mine = adapter_run(run)
    told = [(line, base, mine if on == "mine" else on, *rest) for line, base, on, *rest in columns]
    sentence = refused(code, samples_of, compared(*told), run, "the file c.json")
    assert part in sentence and run.id in sentence and "the file c.json" in sentence and "Compare" in sentence.title()


def test_what_is_no_record_is_refused_and_so_is_a_run_that_is_not_done(run, owner):
    adapter_run(run)
    refused("record.none", samples_of, {"columns": []}, run, "c")
    of_earlier = {name: value for name, value in compared(told_base()).items() if name != "models"}
    refused("record.no_weights", samples_of, of_earlier, run, "c")
    run.log.path.write_text("")
    assert run.id in refused("publish.not_done", samples_of, compared(told_base()), run, "c")


def test_a_base_whose_weights_were_never_written_down_is_taken_on_the_word_of_the_adapter(run):
    mine = adapter_run(run)
    record(run, base="a/b")
    told = compared(("greedy", OTHER, mine, "Mine.", "eos"), told_base())
    assert [one.text for one in samples_of(told, run, "c")] == ["Mine."]


def test_a_conversation_is_shown_with_its_roles_and_one_message_without(run):
    mine = adapter_run(run)
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tea?"}]
    column = ("greedy", BASE, mine, "Yes.", "eos")
    assert samples_of(compared(column, messages=turns), run, "c")[0].prompt == "system: Be brief.\n\nuser: Tea?"
    assert samples_of(compared(column, messages=turns[1:]), run, "c")[0].prompt == "Tea?"


def card_with(run, *samples):
    owner = Owner("local")
    base = facts.base_of(run, owner)
    files = [made("adapter_config.json", b"{}")]
    licence = facts.known_license(base, owner)
    return render(Subject(run, Destination("ada/tea"), base, licence, files, samples=samples), owner)


def test_the_prompt_stands_once_above_what_was_written_to_it(run):
    texts = [Sample("Tea?", "Green.", "nucleus"), Sample("Tea?", "Water.", base=True), Sample("Milk?", "No.")]
    card = card_with(run, *texts)
    assert card.count("> Tea?") == card.count("> Milk?") == 1
    assert "**greedy**, base model:\n\n> Water.  \n" in card
    assert "**nucleus**:\n\n> Green.  \n" in card


@pytest.mark.parametrize("text", [*NASTY, *BLOCKS])
def test_a_text_stands_in_the_card_as_it_is_and_makes_nothing(run, text):
    card = card_with(run, Sample(text, text, "greedy"))
    quotation = card.split("\nPrompt:\n\n")[1]
    quotation = quotation[: quotation.index("\n\n**greedy**:")]
    shown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(quotation)
    assert set(re.findall(r"<(/?\w+)", shown)) <= {"blockquote", "/blockquote", "p", "/p", "br"}, shown
    assert as_words(html.unescape(re.sub(r"<[^>]*>", " ", shown))) == as_words(printable(text))
    assert not re.search(r"www\.|(https?|ftp|mailto|xmpp):|@", quotation, re.IGNORECASE)


def printable(text):
    return "".join(one for one in text if one.isprintable() or one.isspace())


def as_words(text):
    return text.replace("\xa0", " ").split()


def test_a_long_text_is_cut_and_says_so_and_a_long_line_is_not(run):
    long_line, many_lines = "word " * 150, "\n".join(map(str, range(40)))
    card = card_with(run, Sample("Tea?", long_line.strip()), Sample("Tea?", many_lines), Sample("Tea?", "x" * 5000))
    assert f"> {long_line.strip()}  \n" in card
    assert "> 23…  \n" in card and "> 24" not in card
    assert f"> {'x' * 1200}…  \n" in card
