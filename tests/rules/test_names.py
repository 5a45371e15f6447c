"""Names in people's files, scripts and links stay: knobs, strategies, events, options, variables, keys of the words."""

import json

import pytest

from finetune.__main__ import main as finetune
from inference.__main__ import main as inference
from tests.rules import names


def _gone(before, now):
    """What was there before and is not there now, by its path."""
    if isinstance(before, dict):
        return [
            path if name in now else name
            for name, part in before.items()
            for path in ([f"{name}: {one}" for one in _gone(part, now[name])] if name in now else [name])
        ]
    return [name for name in before if name not in now]


def test_no_name_is_lost():
    before = names.kept()
    before.pop("endpoints")
    assert _gone(before, names.names()) == []


def test_a_lost_name_is_found():
    before = {"shell": {"a b": ["--c", "--d"], "e": []}, "events": ["f", "g"]}
    assert _gone(before, {"shell": {"a b": ["--d"]}, "events": ["g", "h"]}) == [
        "shell: a b: --c",
        "shell: e",
        "events: f",
    ]


def test_every_name_that_came_since_is_written_down():
    """`python -m tests.rules.names > tests/rules/names.json`, once it is decided on."""
    now, before = names.names(), names.kept()
    assert json.loads(json.dumps(now)).keys() <= before.keys() and _gone(now, before) == []


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (finetune, ["status", "nonsense"]),
        (finetune, ["nonsense"]),
        (finetune, ["check", "/no/such.jsonl"]),
        (finetune, ["delete", "r20200101-000000-0000"]),
        (inference, ["compare", "--prompt", "x", "--columns", "nucleos"]),
        (inference, ["nonsense"]),
        (inference, ["compare", "--record", "/no/such.json"]),
    ],
)
def test_what_a_person_can_put_right_ends_with_2_and_one_sentence(main, words, capfd):
    assert main(words) == 2
    shown = capfd.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 1


@pytest.mark.parametrize("main", [finetune, inference])
def test_help_ends_with_0(main, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0 and capsys.readouterr().out


def test_ctrl_c_ends_the_shell_with_130(monkeypatch):
    monkeypatch.setattr("finetune.runs.run.list_runs", _interrupted)
    assert finetune(["list"]) == 130


def _interrupted(*given):
    raise KeyboardInterrupt
