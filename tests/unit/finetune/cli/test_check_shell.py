"""What the shell says of a data file and of a command line that is none."""

import pytest

from core.words import counted, speaking
from finetune.cli.main import main
from finetune.data.findings import DataFinding, placed


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["bogus"], ["'bogus'", '"python -m finetune --help"']),
        ([], ["COMMAND", '"python -m finetune --help"']),
        (["check"], ["file", '"python -m finetune check --help"']),
        (["check", "x.jsonl", "--colour"], ["--colour", "--help"]),
        (["publish", "r1", "a/b", "--what", "poem"], ["'poem'", '"python -m finetune publish --help"']),
    ],
)
def test_a_wrong_command_line_gets_one_sentence_and_exit_2(capsys, arguments, parts):
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 1
    assert [part for part in parts if part not in shown.err] == [], shown.err


def test_a_finding_is_set_apart_from_its_rows_and_its_remedy(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    row = '{"prompt": "a", "completion": "b"}\n'
    path.write_text(row * 3 + '{"prompt": "a", "completion": ""}\n')
    assert main(["check", str(path)]) == 1
    first, *found = capsys.readouterr().out.splitlines()
    assert first == "rows.jsonl: 1 of 4 rows usable (chat, prompt_completion)."
    assert found[0].startswith("  error: Empty answers (row 4). Skipped.")
    assert found[1].startswith("  error: Duplicates (rows 2-3). Skipped;")


def test_one_is_counted_as_one():
    assert [counted("core.rows", count) for count in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    assert [counted("core.steps", count) for count in (1, 12)] == ["1 step", "12 steps"]
    with speaking("zh"):
        assert counted("core.rows", 1) == "1 行"
        assert placed(DataFinding("duplicate", "error", [2, 3])).endswith("（行 2-3）")
