"""Bad rows are listed under a rule and left out; every row that went in is either kept or found."""

import json
import random

import pytest

from core.errors import UserError
from core.words import speaking
from finetune.data.findings import RULES, shortened
from finetune.data.importing.importer import check_file, import_file

GOOD = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}


def chat(*turns, **more):
    return {"messages": [{"role": role, "content": content} for role, content in turns], **more}


FOUND = {
    "empty answer": (chat(("user", "a"), ("assistant", " \n\u200b")), "empty_answer"),
    "no content": ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant"}]}, "empty_answer"),
    "empty prompt": (chat(("user", "\t"), ("assistant", "b")), "empty_prompt"),
    "no turns": ({"messages": []}, "empty_prompt"),
    "no messages": ({"other": 1}, "empty_prompt"),
    "unknown role": (chat(("narrator", "a"), ("assistant", "b")), "wrong_roles"),
    "no role": ({"messages": [{"content": "a"}, {"role": "assistant", "content": "b"}]}, "wrong_roles"),
    "role is a number": (chat((1, "a"), ("assistant", "b")), "wrong_roles"),
    "no answer": (chat(("system", "s"), ("user", "a")), "wrong_roles"),
    "begins with the answer": (chat(("assistant", "b"), ("user", "a"), ("assistant", "b")), "wrong_roles"),
    "two users": (chat(("user", "a"), ("user", "b"), ("assistant", "c")), "wrong_roles"),
    "late system": (chat(("user", "a"), ("system", "b"), ("assistant", "c")), "wrong_roles"),
    "number for text": (chat(("user", "a"), ("assistant", 42)), "wrong_type"),
    "object for turns": ({"messages": {"a": 1}}, "wrong_type"),
    "text for turns": ({"messages": "hello"}, "wrong_type"),
    "turns of text": ({"messages": ["a", "b"]}, "wrong_type"),
    "an image": (chat(("user", [{"type": "image_url", "image_url": "x"}]), ("assistant", "b")), "wrong_type"),
    "odd tools": (chat(("user", "a"), ("assistant", "b"), tools=7), "wrong_type"),
    "a tool call": (
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "", "tool_calls": [{"id": 1}]},
            ]
        },
        "tool_calls",
    ),
    "half a character": (chat(("user", "\ud83d"), ("assistant", "b")), "unreadable"),
    "the same again": (GOOD, "duplicate"),
}


@pytest.mark.parametrize("case", FOUND)
def test_each_kind_of_bad_row_is_found_by_its_number_and_left_out(case, owner, tmp_path):
    row, rule = FOUND[case]
    last = chat(("user", "x"), ("assistant", "y"), tools=[{"name": "t"}])
    dataset = import_file(write(tmp_path, [GOOD, row, last]), owner)
    assert [(found.rule, found.severity, found.rows) for found in dataset.report.findings] == [(rule, "error", [2])]
    assert (dataset.report.rows_in, dataset.report.rows_kept, len(dataset.rows())) == (3, 2, 2)
    assert dataset.numbers() == [1, 3]


WARNED = {
    "unanswered": chat(("user", "a"), ("assistant", "b"), ("user", "c")),
    "unused_fields": {
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "r"}]
    },
}


@pytest.mark.parametrize("rule", WARNED)
def test_a_warning_keeps_the_row(rule, tmp_path):
    report = check_file(write(tmp_path, [GOOD, WARNED[rule]]))
    assert report.rows_kept == 2
    assert [(found.rule, found.severity, found.rows) for found in report.findings] == [(rule, "warning", [2])]


def test_two_same_answers_are_no_preference(tmp_path):
    rows = [{"prompt": "a", "chosen": "b", "rejected": answer} for answer in ("b", "c", "")]
    report = check_file(write(tmp_path, rows))
    assert [(found.rule, found.rows) for found in report.findings] == [("empty_answer", [3]), ("same_answers", [1])]


def test_the_report_as_json_holds_exactly_what_was_agreed(tmp_path):
    report = check_file(write(tmp_path, [GOOD, GOOD, GOOD])).to_json()
    remedy = report["findings"][0].pop("remedy")
    assert remedy.startswith("Skipped")
    assert report == {
        "kind": "chat",
        "format": "messages",
        "rows_in": 3,
        "rows_kept": 1,
        "findings": [{"rule": "duplicate", "severity": "error", "rows": [2, 3]}],
    }


def test_every_rule_has_a_title_and_a_remedy_in_both_languages(tmp_path):
    finding = check_file(write(tmp_path, [GOOD, GOOD])).findings[0]
    with speaking("zh"):
        chinese = finding.title, finding.remedy
    assert chinese[0] == "重复行" and chinese != (finding.title, finding.remedy)
    from core.words import catalogue

    assert {f"data.{part}.{rule}" for rule in RULES for part in ("rule", "remedy")} <= catalogue("en").keys()


def test_row_numbers_are_shown_shortened():
    assert shortened([3]) == "3"
    assert shortened([9, 1, 2, 3, 7]) == "1-3, 7, 9"
    assert shortened(range(1, 100, 2), most=3) == "1, 3, 5 and 47 more"


def nasty_values(chance):
    yield from (
        None,
        "",
        " ",
        0,
        7,
        1.5,
        True,
        [],
        {},
        [[]],
        "text",
        "\x00",
        "\ud800",
        "a" * 5000,
        "<script>x</script>",
    )
    yield {"role": "user"}
    yield [{"role": "user", "content": "q"}, {"role": "assistant", "content": chance.choice(["a", "", None, 3, []])}]
    yield [{"from": chance.choice(["human", "gpt", "x", None]), "value": chance.choice(["v", "", 1])} for _ in range(3)]
    yield "[" * chance.randrange(1, 2000)
    yield {"a": {"b": [1, {"c": None}]}}
    yield float("nan")


COLUMNS = [
    "instruction",
    "input",
    "output",
    "messages",
    "conversations",
    "prompt",
    "chosen",
    "rejected",
    "text",
    "tools",
]


def nasty_line(chance):
    if chance.random() < 0.15:
        return chance.choice([b"{", b"[]", b"nul", b'"x"', b"\x80\xfe", b'{"a":', b"12", b"{}", b'{"text": "\xe9"}'])
    columns = chance.sample(COLUMNS, chance.randrange(1, 6))
    row = {column: chance.choice(list(nasty_values(chance))) for column in columns}
    return json.dumps(row).encode()


@pytest.mark.parametrize("seed", range(60))
def test_whatever_a_file_holds_rows_in_are_rows_kept_and_rows_found(seed, owner, tmp_path):
    chance = random.Random(seed)
    lines = [nasty_line(chance) for _ in range(chance.randrange(1, 120))]
    path = tmp_path / "nasty.jsonl"
    path.write_bytes(b"\n".join(lines))
    try:
        report = check_file(path)
    except UserError as error:
        assert error.code in ("data.nothing_readable", "data.unrecognised")
        return
    errors = [row for found in report.findings if found.severity == "error" for row in found.rows]
    assert report.rows_in == len(lines)
    assert len(errors) == len(set(errors))
    assert report.rows_in == report.rows_kept + len(errors)
    assert set(errors) <= set(range(1, len(lines) + 1))
    if report.usable:
        dataset = import_file(path, owner)
        assert len(dataset.rows()) == report.rows_kept
        assert sorted([*dataset.numbers(), *errors]) == list(range(1, len(lines) + 1))


def write(folder, rows):
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path
