"""Prompts from files and rows of every form, and what is said of those that are none."""

import json

import pytest

from core.errors import UserError
from core.rows import ChatRow, LabelledRow, Message, PairRow, PreferenceRow, TaggedRow, TextRow
from inference.prompt_sets.reading import MOST_PROMPTS, of_rows, read_prompts

QUESTION = {"role": "user", "content": "Tea?"}
ANSWER = {"role": "assistant", "content": "Yes."}


def _file(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_text_file_has_one_prompt_a_line_and_keeps_their_numbers(tmp_path):
    found = read_prompts(_file(tmp_path, "a.txt", "\ufeffone\r\n\r\n 二 \n"))
    assert [(one.number, one.prompt) for one in found] == [(1, "one"), (3, " 二 ")]


@pytest.mark.parametrize(
    ("entry", "prompt"),
    [
        ("Tea?", "Tea?"),
        ({"prompt": "Tea?"}, "Tea?"),
        ({"prompt": [QUESTION]}, [QUESTION]),
        ({"messages": [QUESTION, ANSWER]}, [QUESTION]),
        ([QUESTION, ANSWER, QUESTION], [QUESTION, ANSWER, QUESTION]),
        ({"instruction": "Add.", "input": "1 and 2", "output": "3"}, "Add.\n1 and 2"),
        ({"instruction": "Sing.", "input": ""}, "Sing."),
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_json_entries_of_every_form_are_read(tmp_path, entry, prompt, suffix):
    text = json.dumps([entry] if suffix == ".json" else entry)
    (found,) = read_prompts(_file(tmp_path, f"a{suffix}", text))
    assert found.prompt == prompt and found.problem is None


@pytest.mark.parametrize("entry", [7, None, {"text": "x"}, {"prompt": 3}, [], ["a"], {"messages": [ANSWER]}])
def test_an_entry_that_is_no_prompt_is_told_of_alone(tmp_path, entry):
    good, bad = read_prompts(_file(tmp_path, "a.json", json.dumps(["Tea?", entry])))
    assert good.problem is None
    assert bad.number == 2 and str(bad.problem)


def test_a_broken_line_is_told_of_alone(tmp_path):
    good, bad = read_prompts(_file(tmp_path, "a.jsonl", '"Tea?"\n{"prompt": \n'))
    assert good.problem is None and bad.problem.code == "sets.line_json"


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("a.csv", "x", "sets.file_kind"),
        ("a.json", "{", "sets.file_json"),
        ("a.json", "[" * 100_000, "sets.file_json"),
        ("a.json", '{"prompt": "x"}', "sets.file_list"),
        ("a.txt", "\n \n", "sets.no_prompt"),
        ("a.txt", "x\n" * (MOST_PROMPTS + 1), "sets.too_many"),
    ],
)
def test_a_file_that_will_not_do_is_refused_in_words(tmp_path, name, text, code):
    with pytest.raises(UserError) as refused:
        read_prompts(_file(tmp_path, name, text))
    assert refused.value.code == code and str(refused.value)


def test_a_file_that_is_not_there_or_no_text_is_refused_in_words(tmp_path):
    with pytest.raises(UserError, match=r"no\.txt"):
        read_prompts(tmp_path / "no.txt")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        read_prompts(tmp_path / "bytes.txt")


def test_the_first_prompts_are_taken(tmp_path):
    path = _file(tmp_path, "a.txt", "x\n" * 500)
    assert len(read_prompts(path, 3)) == 3
    for wrong in (0, MOST_PROMPTS + 1):
        with pytest.raises(UserError, match=str(wrong)):
            read_prompts(path, wrong)


def test_rows_of_every_kind_give_their_question():
    user, assistant = Message(role="user", content="Tea?"), Message(role="assistant", content="Yes.")
    rows = [
        ChatRow(messages=[user, assistant]),
        TextRow(text="x" * 500),
        PairRow(source="ein", target="one"),
        PreferenceRow(prompt=[user], chosen=[assistant], rejected=[assistant]),
        LabelledRow(text="good", labels=["a"]),
        TaggedRow(tokens=["a", "b"], tags=["X", "Y"]),
    ]
    found = of_rows(rows, "rows")
    assert [one.prompt for one in found] == [[QUESTION], "x" * 200, "ein", [QUESTION], "good", "a b"]
    assert found[0].shown == "Tea?"
