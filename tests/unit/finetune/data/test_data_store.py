"""Datasets are immutable folders named by their content."""

import hashlib
import json
import re

import pytest
from pyarrow import parquet

from core.errors import UserError
from core.workspace import Owner, dataset_folder
from finetune.data.importing.importer import check_file, import_file
from finetune.data.store import example_file, list_datasets, open_dataset

ROWS = [{"prompt": f"问 {number}", "response": f"答 {number}"} for number in range(2500)]


def test_a_dataset_is_named_by_the_sha256_of_its_kind_and_rows_as_canonical_json(owner, tmp_path):
    dataset = import_file(write(tmp_path / "rows.jsonl", ROWS), owner)
    turns = [
        {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]}
        for row in ROWS
    ]
    content = {"kind": "chat", "rows": turns}
    canonical = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert dataset.id == hashlib.sha256(canonical.encode()).hexdigest()
    assert dataset.folder == owner.datasets / dataset.id
    assert dataset_folder(owner, dataset.id[:12]) == dataset.folder
    assert [row.messages[0].content for row in dataset.rows()] == [row["prompt"] for row in ROWS]
    assert len(dataset.rows(7)) == 7 and dataset.numbers(3) == [1, 2, 3]
    assert dataset.table().schema.field("messages").type.value_type.field("role").type == "string"


def test_the_same_content_imported_twice_is_one_dataset_that_stays_as_it_was(owner, tmp_path):
    first = import_file(write(tmp_path / "first.jsonl", ROWS[:5]), owner)
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in first.folder.iterdir()}
    second = import_file(write(tmp_path / "second.jsonl", [*ROWS[:5], ROWS[0]]), owner)
    assert (first.known, second.known) == (False, True)
    assert second.id == first.id and second.name == "first.jsonl"
    assert [found.rule for found in second.report.findings] == ["duplicate"]
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in first.folder.iterdir()} == before
    assert len(list_datasets(owner)) == 1
    assert sorted(path.name for path in owner.datasets.iterdir()) == [first.id]


def test_a_dataset_reads_back_from_its_folder_with_its_report(owner, tmp_path):
    made = import_file(write(tmp_path / "rows.jsonl", [*ROWS[:3], ROWS[0], {"prompt": "x", "response": ""}]), owner)
    read = open_dataset(made.folder)
    assert read.report == made.report and read.rows() == made.rows() and read.source == made.source
    assert read.report.statistics["rows"] == 3 and read.report.statistics["turns"] == 6
    assert list_datasets(owner) == [read] and list_datasets(Owner("somebody")) == []


def test_a_folder_without_a_dataset_gets_a_sentence(tmp_path):
    with pytest.raises(UserError, match="contains no dataset"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    "name", ["<img src=x onerror=alert(1)>.jsonl", "../../etc/passwd.jsonl", "a\\b.jsonl", "数" * 300, "x\n\x00y.jsonl"]
)
def test_a_name_given_by_a_user_is_kept_as_text_and_never_as_a_path(name, owner, tmp_path):
    path = write(tmp_path / "upload.jsonl", ROWS[:2])
    dataset = import_file(path, owner, source_name=name)
    assert re.fullmatch(r"[0-9a-f]{64}", dataset.folder.name)
    assert len(dataset.name) <= 80 and "\n" not in dataset.name and "/" not in dataset.name
    assert {path.name for path in owner.folder.rglob("*") if path.is_file()} == {"rows.parquet", "report.json"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "upload.jsonl"]


def test_an_import_stopped_by_its_progress_leaves_nothing(owner, tmp_path):
    told = []

    def stop(done, total):
        told.append((done, total))
        raise KeyboardInterrupt

    path = write(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(KeyboardInterrupt):
        import_file(path, owner, progress=stop)
    assert 0 < told[0][0] <= told[0][1] == path.stat().st_size
    assert list(owner.datasets.iterdir()) == []


def test_an_import_is_not_stopped_by_another_one_that_ends_meanwhile(owner, tmp_path):
    owner.datasets.mkdir(parents=True)
    (owner.datasets / ".import-of-another").symlink_to("gone-since-it-was-listed")
    assert import_file(write(tmp_path / "rows.jsonl", ROWS), owner).report.rows_kept == len(ROWS)


def test_long_rows_are_written_and_read_a_few_at_a_time(owner, tmp_path):
    rows = [{"text": f"{number} " + "a" * 1_900_000} for number in range(30)]
    dataset = import_file(write(tmp_path / "rows.jsonl", rows), owner)
    assert parquet.ParquetFile(dataset.folder / "rows.parquet").metadata.num_row_groups == 4
    assert [row.text.split()[0] for row in dataset.rows()] == [str(number) for number in range(30)]
    assert len(dataset.rows(2)) == 2


def test_tools_come_back_as_they_were(owner, tmp_path):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"x": [1, None, {"y": "z"}]}}}]
    rows = [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tools": value}
        for value in (tools, None)
    ]
    rows[1]["messages"][0]["content"] = "other"
    dataset = import_file(write(tmp_path / "tools.jsonl", rows), owner)
    assert [row.tools for row in dataset.rows()] == [tools, None]


def test_the_example_has_sixty_good_rows_two_thirds_of_them_english():
    report = check_file(example_file())
    assert (report.kind, report.format, report.rows_in, report.rows_kept) == ("chat", "messages", 60, 60)
    assert report.findings == []
    text = example_file().read_text(encoding="utf-8").splitlines()
    chinese = [line for line in text if re.search("[\u4e00-\u9fff]", line)]
    assert len(chinese) == 20
    assert all("提示：" in line for line in chinese)
    assert all(" Tip: " in line for line in text if line not in chinese)


def write(path, rows):
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"id": 1', '{"kind": "chat", "findings": 3}'])
def test_a_damaged_report_hides_its_own_dataset_alone(owner, tmp_path, content, caplog):
    whole, damaged = (tmp_path / f"{name}.txt" for name in ("whole", "damaged"))
    whole.write_text("one\ntwo\n")
    damaged.write_text("three\nfour\n")
    kept = import_file(whole, owner)
    (import_file(damaged, owner).folder / "report.json").write_text(content)
    assert [dataset.id for dataset in list_datasets(owner)] == [kept.id]
    assert [record.getMessage() for record in caplog.records] == ["damaged_dataset"]
