"""Which column is which, said in the shell and in a config where it is not recognised."""

import json

import pytest

from core.errors import UserError
from finetune.cli.main import main
from finetune.config.mapping import Mapping, read_mapping_words
from finetune.config.run_config import load_yaml, to_yaml
from finetune.data.store import open_dataset
from finetune.plan.prepare import import_data
from tests.refusals import refused

ROWS = [
    {"foo": "How do I steep tea?", "bar": "Three minutes.", "baz": "Be brief."},
    {"foo": "And coffee?", "bar": "Four."},
]


@pytest.fixture
def unknown(tmp_path):
    """A file whose columns fit no format."""
    path = tmp_path / "unknown.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return path


@pytest.mark.parametrize(
    ("parts", "shape", "kind"),
    [
        ({"prompt": "a", "answer": "b"}, "prompt_completion", "chat"),
        ({"prompt": "a", "input": "c", "answer": "b"}, "alpaca", "chat"),
        ({"messages": "a", "tools": "b"}, "messages", "chat"),
        ({"text": "a"}, "text", "text"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "prompt_completion", "preference"),
        ({"chosen": "b", "rejected": "c"}, "messages", "preference"),
        ({"prompt": "a", "answer": "b", "kind": "pair"}, "prompt_completion", "pair"),
        ({"prompt": "a", "answer": "b", "format": "alpaca"}, "alpaca", "chat"),
    ],
)
def test_format_and_kind_follow_from_the_parts_unless_they_are_said(parts, shape, kind):
    mapping = Mapping.model_validate(parts)
    assert (mapping.format, mapping.kind) == (shape, kind)


def test_a_file_of_unknown_columns_is_checked_with_a_mapping(unknown, capsys):
    assert main(["check", str(unknown)]) == 2
    assert "--mapping prompt=COLUMN answer=COLUMN" in capsys.readouterr().err
    assert main(["check", str(unknown), "--mapping", "prompt=foo", "answer=bar", "system=baz"]) == 0
    assert "unknown.jsonl: 2 of 2 rows usable (chat, prompt_completion)." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pairs", "parts"),
    [
        (["prompt"], ['"--mapping prompt"', "PART=COLUMN"]),
        (["prompt="], ['"--mapping prompt="', "PART=COLUMN"]),
        (["prompt=foo", "prompt=bar"], ["prompt twice", '"bar"']),
        (["promt=foo", "answer=bar"], ["promt", 'mean "prompt"']),
        (["prompt=foo", "answer=bar", "kind=poem"], ["kind", '"poem"', "chat, text, pair, preference"]),
        (["prompt=foo", "answer=nowhere"], ['"nowhere"', '"answer"', '"foo", "bar"']),
        (["prompt=foo"], ['"answer"', "none is set", '"foo", "bar"']),
        (["text=foo", "kind=chat"], ["Plain text", "plain text"]),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_in_a_sentence(unknown, capsys, pairs, parts):
    assert main(["check", str(unknown), "--mapping", *pairs]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 1
    assert [part for part in parts if part not in shown.err] == [], shown.err


def config_with(source):
    return f"stages: [{{data: [{source}]}}]\n"


def test_a_config_names_the_columns_of_its_data(owner, unknown):
    source = "{path: unknown.jsonl, mapping: {prompt: foo, answer: bar, system: baz}}"
    config = load_yaml(config_with(source), unknown.parent)
    assert load_yaml(to_yaml(config)) == config
    imported = import_data(config, owner)
    dataset = open_dataset(owner.datasets / imported.stages[0].data[0].dataset)
    assert [[message.role for message in row.messages] for row in dataset.rows()] == [
        ["system", "user", "assistant"],
        ["user", "assistant"],
    ]
    assert dataset.report.mapping == read_mapping_words(["prompt=foo", "answer=bar", "system=baz"])
    assert imported.stages[0].data[0].mapping is None


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("{path: a.json, mapping: {promt: foo}}", ["stages.0.data.0.mapping.promt", 'mean "prompt"']),
        ("{path: a.json, mapping: {prompt: 5, answer: b}}", ["stages.0.data.0.mapping.prompt", '"5"', "text"]),
        ("{path: a.json, mapping: foo}", ["stages.0.data.0.mapping", '"foo"', "not a block of settings"]),
        ("{path: a.json, mapping: {format: poem}}", ["stages.0.data.0.mapping.format", '"poem"', "alpaca"]),
        ("{dataset: abababababab, mapping: {prompt: foo, answer: bar}}", ["stages.0.data.0", "path and hub only"]),
    ],
)
def test_a_configs_mapping_that_cannot_be_is_refused_by_field(source, parts, tmp_path):
    with pytest.raises(UserError) as error:
        load_yaml(config_with(source), tmp_path)
    assert [part for part in parts if part not in str(error.value)] == [], str(error.value)


def test_a_column_that_the_file_lacks_is_named_when_a_config_is_read(owner, unknown):
    config = load_yaml(config_with("{path: unknown.jsonl, mapping: {prompt: foo, answer: nix}}"), unknown.parent)
    assert '"nix"' in refused("data.mapping_column", import_data, config, owner)


def test_options_of_the_other_kind_of_file_are_refused(unknown, capsys):
    config = unknown.with_name("config.yaml")
    config.write_text(config_with("{path: unknown.jsonl}"))
    assert main(["check", str(unknown), "--set", "optim.epochs=2"]) == 2
    assert '"--set optim.epochs=2" changes a setting of a config' in capsys.readouterr().err
    assert main(["check", str(config), "--mapping", "prompt=foo"]) == 2
    assert '"--mapping prompt=foo" applies to a data file' in capsys.readouterr().err
