"""An imported dataset as a repository: the rows, a card that counts, a licence that was said."""

import json

import pytest
import yaml

from finetune.data.importing.importer import import_file
from finetune.data.store import example_file
from finetune.publish.kinds import Options, build, cost
from tests.refusals import refused

LICENSED = Options(licence="CC-BY-4.0")


@pytest.fixture
def dataset(owner):
    return import_file(example_file(), owner)


def test_the_rows_lie_there_as_parquet_and_the_card_counts_them(owner, dataset, tmp_path):
    from pyarrow import parquet

    built = build("dataset", dataset, owner, tmp_path / "out", LICENSED)
    assert set(built.facts["files"]) == {"data/train.parquet", "README.md"} and built.repo_type == "dataset"
    table = parquet.read_table(built.folder / "data" / "train.parquet")
    assert table.num_rows == len(dataset.rows()) == built.facts["rows"]
    assert table.equals(dataset.table().drop_columns(["row"]))
    card = (built.folder / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert (head["license"], head["size_categories"]) == ("cc-by-4.0", ["n<1K"])
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "data/train.parquet"}]
    assert f"{table.num_rows} rows of kind `chat`" in card and dataset.id in card
    first = dataset.rows(1)[0].messages[0].content
    assert first and first not in card


def test_the_price_is_known_before(owner, dataset, tmp_path):
    priced = cost("dataset", dataset, owner, LICENSED)
    built = build("dataset", dataset, owner, tmp_path / "out", LICENSED)
    assert set(priced.files) == set(built.facts["files"]) and built.facts["size"] <= priced.disk


def test_findings_are_counted_and_what_strangers_wrote_does_nothing(owner, tmp_path):
    path = tmp_path / "tea <img src=x> [a](b).jsonl"
    rows = [{"instruction": f"Question {number}?", "input": "", "output": "An answer."} for number in range(3)]
    path.write_text("\n".join(json.dumps(row) for row in [*rows, {"instruction": "", "input": "", "output": ""}]))
    dataset = import_file(path, owner)
    built = build("dataset", dataset, owner, tmp_path / "out", Options(licence="other"))
    card = (built.folder / "README.md").read_text()
    assert built.facts["findings"] and "| error | 1 |" in card
    assert "<img" not in card and "[a](b)" not in card


@pytest.mark.parametrize("licence", [None, "", "my own licence!", "-"])
def test_a_licence_must_be_said(owner, dataset, tmp_path, licence):
    sentence = refused("kinds.licence", build, "dataset", dataset, owner, tmp_path / "out", Options(licence=licence))
    assert "--license" in sentence and not (tmp_path / "out").exists()


def test_rows_with_a_token_of_the_hub_are_not_published(owner, tmp_path):
    path = tmp_path / "leak.jsonl"
    rows = [{"instruction": f"Question {number}?", "output": "An answer."} for number in range(3)]
    rows[1]["output"] = "use hf_" + "abcdefghij" * 3
    path.write_text("\n".join(json.dumps(row) for row in rows))
    dataset = import_file(path, owner)
    sentence = refused("kinds.token_in_rows", build, "dataset", dataset, owner, tmp_path / "out", LICENSED)
    assert "row 2" in sentence and "abcdefghij" not in sentence
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.part").exists()
