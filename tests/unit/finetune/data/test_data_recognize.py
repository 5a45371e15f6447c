"""Formats are recognised with evidence, and the user's mapping corrects them."""

import json

import pytest

from core.errors import UserError
from finetune.config.mapping import Mapping
from finetune.data.importing.importer import check_file, import_file
from finetune.data.importing.recognize import recognize

TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
SHARED = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]
CHAT = [("user", "hi"), ("assistant", "ho")]
WITH_SYSTEM = [("system", "be"), *CHAT]
CASES = {
    "alpaca": ({"instruction": "hi", "input": "", "output": "ho"}, "alpaca", CHAT),
    "alpaca with text": ({"instruction": "hi", "output": "ho", "text": "all"}, "alpaca", CHAT),
    "alpaca system": ({"instruction": "hi", "output": "ho", "system": "be"}, "alpaca", WITH_SYSTEM),
    "alpaca history": (
        {"instruction": "c", "output": "d", "history": [["a", "b"]]},
        "alpaca",
        [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")],
    ),
    "dolly": ({"instruction": "hi", "context": "there", "response": "ho"}, "alpaca", [("user", "hi\nthere"), CHAT[1]]),
    "sharegpt": ({"id": "7", "conversations": SHARED}, "sharegpt", CHAT),
    "sharegpt system": ({"conversations": SHARED, "system": "be", "tools": ""}, "sharegpt", WITH_SYSTEM),
    "messages": ({"messages": TURNS}, "messages", CHAT),
    "messages in conversations": ({"conversations": TURNS}, "messages", CHAT),
    "messages as text": ({"messages": json.dumps(TURNS)}, "messages", CHAT),
    "messages with prompt": ({"prompt": "hi", "messages": TURNS}, "messages", CHAT),
    "parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, TURNS[1]]},
        "messages",
        CHAT,
    ),
    "prompt and completion": ({"prompt": "hi", "completion": "ho"}, "prompt_completion", CHAT),
    "capitals": ({"Question": "hi", "Answer": "ho"}, "prompt_completion", CHAT),
    "input and output": ({"input": "hi", "output": "ho"}, "prompt_completion", CHAT),
    "turns in prompt": ({"prompt": TURNS[:1], "completion": TURNS[1:]}, "prompt_completion", CHAT),
}


@pytest.mark.parametrize("case", CASES)
def test_conversations_are_recognized_in_every_format(case, owner, tmp_path):
    row, row_format, turns = CASES[case]
    path = write(tmp_path, [row])
    assert recognize(path).row_format == row_format
    dataset = import_file(path, owner)
    assert dataset.kind == "chat"
    assert [(message.role, message.content) for message in dataset.rows()[0].messages] == turns


PREFERENCES = {
    "sharegpt": {"conversations": SHARED[:1], "chosen": SHARED[1], "rejected": {"from": "gpt", "value": "no"}},
    "text": {"prompt": "hi", "chosen": "ho", "rejected": "no"},
    "alpaca": {"instruction": "hi", "input": "", "chosen": "ho", "rejected": "no"},
    "turns": {"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": [{"role": "assistant", "content": "no"}]},
    "whole": {"chosen": TURNS, "rejected": [TURNS[0], {"role": "assistant", "content": "no"}]},
    "whole with prompt": {
        "prompt": "hi",
        "chosen": TURNS,
        "rejected": [TURNS[0], {"role": "assistant", "content": "no"}],
    },
}


@pytest.mark.parametrize("case", PREFERENCES)
def test_preferences_are_recognized_in_every_format(case, owner, tmp_path):
    dataset = import_file(write(tmp_path, [PREFERENCES[case]]), owner)
    row = dataset.rows()[0]
    assert dataset.kind == "preference"
    parts = [[(message.role, message.content) for message in part] for part in (row.prompt, row.chosen, row.rejected)]
    assert parts == [[("user", "hi")], [("assistant", "ho")], [("assistant", "no")]]


def test_text_and_pairs_are_recognized(owner, tmp_path):
    assert import_file(write(tmp_path, [{"id": "1", "text": "hello"}]), owner).rows()[0].text == "hello"
    assert import_file(write(tmp_path, [{"verse": "hello"}]), owner).rows()[0].text == "hello"
    pair = import_file(write(tmp_path, [{"source": "dog", "target": "chien"}]), owner).rows()[0]
    assert (pair.source, pair.target) == ("dog", "chien")


def test_the_evidence_names_columns_roles_and_what_is_not_used(tmp_path):
    evidence = " ".join(recognize(write(tmp_path, [{"id": 1, "conversations": SHARED}] * 3)).evidence)
    assert '3 of the first 3 rows have "conversations"' in evidence
    assert "from/value" in evidence and "human, gpt" in evidence
    assert 'Unused columns: "id"' in evidence


def test_a_few_odd_rows_do_not_hide_the_format(tmp_path):
    rows = [{"text": "odd"}, {"x": 1}, *[{"prompt": str(number), "response": "a"} for number in range(5)]]
    report = check_file(write(tmp_path, rows))
    assert report.format == "prompt_completion"
    assert (report.rows_in, report.rows_kept) == (7, 5)


def test_the_mapping_says_which_column_is_which(owner, tmp_path):
    path = write(tmp_path, [{"ask": "hi", "tell": "ho"}])
    assert recognize(path).mapping is None
    assert recognize(path).columns == ["ask", "tell"]
    mapping = Mapping(format="prompt_completion", prompt="ask", answer="tell")
    assert [message.content for message in import_file(path, owner, mapping).rows()[0].messages] == ["hi", "ho"]
    swapped = import_file(path, owner, Mapping(format="alpaca", kind="pair", prompt="tell", answer="ask"))
    assert (swapped.kind, swapped.rows()[0].source) == ("pair", "ho")


@pytest.mark.parametrize(
    ("mapping", "code", "said"),
    [
        (Mapping(format="alpaca", prompt="ask"), "data.mapping_part", '"answer"'),
        (Mapping(format="alpaca", prompt="ask", answer="reply"), "data.mapping_column", '"reply"'),
        (Mapping(format="text", kind="chat", text="ask"), "data.mapping_kind", "plain text"),
        (None, "data.unrecognised", '"tell"'),
    ],
)
def test_a_mapping_that_does_not_fit_names_what_is_missing_and_the_columns_there_are(mapping, code, said, tmp_path):
    with pytest.raises(UserError) as caught:
        check_file(write(tmp_path, [{"ask": "hi", "tell": "ho"}]), mapping)
    assert caught.value.code == code
    assert said in str(caught.value)
    assert code == "data.mapping_kind" or '"ask", "tell"' in str(caught.value)


def write(folder, rows):
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path
