"""Files of every kind become the same rows; files that cannot be read get a sentence and leave nothing."""

import csv
import gzip
import io
import json
import tracemalloc

import pyarrow as pa
import pytest
from pyarrow import parquet

from core.errors import UserError
from finetune.data.importing.importer import check_file, import_file
from finetune.data.importing.json_rows import layout
from finetune.data.importing.recognize import recognize
from finetune.data.limits import ImportLimits

ROWS = [
    {"instruction": 'Say "hi", please\nand twice', "input": "", "output": "hi\nhi"},
    {"instruction": "你好吗？", "input": "认真", "output": "很好 😀"},
    {"instruction": "c, d; e\tf", "input": "x", "output": "  padded  "},
]


def table(delimiter):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def parquet_bytes(rows=ROWS):
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


JSON = json.dumps(ROWS, ensure_ascii=False).encode()
LINES = b"\n\n".join(json.dumps(row).encode() for row in ROWS)
GOOD = {
    "array.json": JSON,
    "pretty.json": json.dumps(ROWS, indent=2).encode(),
    "marked.json": b"\xef\xbb\xbf" + JSON,
    "utf16.json": JSON.decode().encode("utf-16"),
    "under_a_key.json": json.dumps({"version": 1, "data": ROWS}).encode(),
    "columns.json": json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]}).encode(),
    "pandas.json": json.dumps({key: {str(n): row[key] for n, row in enumerate(ROWS)} for key in ROWS[0]}).encode(),
    "lines.jsonl": LINES,
    "windows.jsonl": LINES.replace(b"\n\n", b"\r\n"),
    "lines_really.json": LINES,
    "array_really.jsonl": JSON,
    "pretty_really.jsonl": json.dumps(ROWS, indent=1).encode(),
    "table.csv": table(","),
    "semicolons.csv": table(";"),
    "marked.csv": b"\xef\xbb\xbf" + table(","),
    "table.tsv": table("\t"),
    "table.parquet": parquet_bytes(),
    "UPPER.JSONL": LINES,
    "parquet_really.json": parquet_bytes(),
}


def test_a_compressed_file_is_known_by_its_content(owner, tmp_path):
    plain = import_file(write(tmp_path, "rows.csv", table(",")), owner)
    assert import_file(write(tmp_path, "packed.csv", gzip.compress(table(","))), owner).id == plain.id


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("packed", [False, True])
def test_the_same_rows_in_any_file_are_the_same_dataset(name, packed, owner, tmp_path):
    expected = import_file(write(tmp_path, "expected.json", JSON), owner)
    content = GOOD[name]
    path = write(tmp_path, name + ".gz", gzip.compress(content)) if packed else write(tmp_path, name, content)
    dataset = import_file(path, owner)
    assert dataset.id == expected.id
    assert dataset.known
    assert [message.content for message in dataset.rows()[1].messages] == ["你好吗？\n认真", "很好 😀"]


BAD = {
    "empty.jsonl": (b"", "data.empty"),
    "blank.jsonl": (b"\n \n", "data.empty"),
    "no_rows.json": (b"[]", "data.empty"),
    "header_only.csv": (b"instruction,output\n", "data.empty"),
    "rows.xlsx": (b"PK\x03\x04", "data.extension"),
    "no_extension": (JSON, "data.extension"),
    "only.gz": (gzip.compress(JSON), "data.extension"),
    "excel.csv": (b"PK\x03\x04aaaa", "data.other_content"),
    "paper.txt": (b"%PDF-1.7", "data.other_content"),
    "picture.json": (b"\x89PNG\r\n\x00\x00", "data.binary"),
    "unmarked.txt": ("hello there".encode("utf-16-le"), "data.binary"),
    "twice.csv.gz": (gzip.compress(gzip.compress(b"text")), "data.other_content"),
    "fake.parquet": (b"instruction,output\n1,2\n", "data.not_parquet"),
    "odd_names.parquet": (
        parquet_bytes([{"text column": "a"}]).replace(b"text column", b"text colum\xc4"),
        "data.not_parquet",
    ),
    "cut.parquet": (parquet_bytes()[:-20], "data.not_parquet"),
    "cut.json": (JSON[:-30], "data.json_ends"),
    "comma.json": (b'[{"text": "a"},]', "data.json_broken"),
    "behind.json": (b'[{"text": "a"}] x', "data.json_broken"),
    "bare.json": (b'[{"text": a}]' + b" " * 100, "data.json_broken"),
    "not_json.json": (b"hello", "data.not_json"),
    "cut_object.json": (b'{"data": [\n{"text": "a"},\n', "data.not_json"),
    "number.json": (b"42", "data.no_rows_in_json"),
    "settings.json": (b'{"a": 1}', "data.no_rows_in_json"),
    "splits.json": (b'{"train": [{"text": "a"}], "test": [{"text": "b"}]}', "data.several_tables"),
    "cut.jsonl.gz": (gzip.compress(LINES * 50)[:-20], "data.gzip"),
    "plain.jsonl.gz": (LINES, "data.not_gzip"),
    "strings.json": (b'["a", "b"]', "data.nothing_readable"),
    "broken.jsonl": (b"{a}\n{b}\n", "data.nothing_readable"),
    "latin.jsonl": (b'{"text": "caf\xe9"}\n', "data.nothing_left"),
    "same_names.csv": (b"text,text\na,b\n", "data.header"),
    "unknown.csv": (b"alpha,beta\n1,2\n", "data.unrecognised"),
    "all_empty.jsonl": (b'{"prompt": "", "response": "x"}\n', "data.nothing_left"),
    "deep.json": (b"[" * 200_000, "data.json_broken"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_read_gets_a_sentence_and_leaves_nothing(name, owner, tmp_path):
    content, code = BAD[name]
    path = write(tmp_path, name, content)
    with pytest.raises(UserError) as caught:
        import_file(path, owner)
    assert caught.value.code == code
    assert name in str(caught.value)
    assert not list(owner.folder.rglob("*.*")) and not list(owner.datasets.glob("*"))


def test_a_missing_file_and_a_folder_get_a_sentence(owner, tmp_path):
    (tmp_path / "folder.json").mkdir()
    for path in (tmp_path / "missing.json", tmp_path / "folder.json"):
        with pytest.raises(UserError, match=r"File .* was not found"):
            import_file(path, owner)


def test_a_gzip_bomb_is_refused_before_it_unpacks(owner, tmp_path):
    packed = gzip.compress(b'{"text": "' + b"a" * 30_000_000)
    assert len(packed) < 100_000
    for name in ("bomb.jsonl.gz", "bomb.json.gz", "bomb.csv.gz", "bomb.txt.gz"):
        path = write(tmp_path, name, packed)
        with pytest.raises(UserError) as caught:
            import_file(path, owner, limits=ImportLimits(expanded_bytes=2**20))
        assert caught.value.code == "data.expands"


def test_a_parquet_file_that_expands_too_far_is_refused(owner, tmp_path):
    path = write(tmp_path, "bomb.parquet", parquet_bytes([{"text": "a" * 100_000}] * 100))
    assert path.stat().st_size < 200_000
    with pytest.raises(UserError) as caught:
        import_file(path, owner, limits=ImportLimits(expanded_bytes=2**20))
    assert caught.value.code == "data.expands"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (ImportLimits(file_bytes=10), "data.too_large"),
        (ImportLimits(rows=2), "data.too_many_rows"),
        (ImportLimits(row_characters=20), "data.row_too_long"),
    ],
)
def test_each_limit_has_its_sentence(limits, code, tmp_path):
    rows = json.dumps([*ROWS, {"instruction": "a" * 5_000_000, "output": "b"}]).encode()
    with pytest.raises(UserError) as caught:
        check_file(write(tmp_path, "big.json", rows), limits=limits)
    assert caught.value.code == code


def test_a_line_longer_than_a_row_may_be_is_unreadable_and_the_rest_is_kept(tmp_path):
    lines = [json.dumps({"text": "a"}), json.dumps({"text": "b" * 5000}), json.dumps({"text": "c"})]
    report = check_file(
        write(tmp_path, "rows.jsonl", "\n".join(lines).encode()), limits=ImportLimits(row_characters=1000)
    )
    assert (report.rows_in, report.rows_kept) == (3, 2)
    assert [(found.rule, found.rows) for found in report.findings] == [("unreadable", [2])]


def peak_of(work):
    """The most bytes that Python held at once during some work, beyond what it held before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("row", [b"b", b'"b'])
def test_a_table_line_without_an_end_is_never_held_whole(row, tmp_path):
    content = b"prompt,response\na,b\n" + row + b"b" * 50_000_000 + b"\nc,d\n"
    path = write(tmp_path, "rows.csv.gz", gzip.compress(content, 1))
    reports = []
    assert peak_of(lambda: reports.append(check_file(path))) < 40_000_000
    assert (reports[0].rows_in, reports[0].rows_kept) == (3, 2)
    assert [(found.rule, found.rows) for found in reports[0].findings] == [("unreadable", [2])]


class CountedReads(io.StringIO):
    """A text that counts how often it is read from."""

    reads = 0

    def read(self, size=-1):
        self.reads += 1
        return super().read(size)

    def readline(self, size=-1):
        self.reads += 1
        return super().readline(size)


@pytest.mark.parametrize(
    ("text", "expected"),
    [('[{"a": 1}]', "array"), ('{"a": 1}\n{"a": 2}', "lines"), ('{"a":\n[1]}', "document"), ("", "lines")],
)
def test_white_space_before_rows_is_passed_over_in_stretches(text, expected):
    stream = CountedReads(" \n" * 2_000_000 + text)
    assert layout(stream, "json", ImportLimits()) == expected
    assert stream.reads < 20


def test_unreadable_rows_are_named_by_their_number_and_the_others_kept(tmp_path):
    lines = [
        b'{"text": "one", "caf\xe9": 1}',
        b'{"text": "one"}',
        b'{"text": ',
        b"",
        b"[1]",
        b'{"text": "caf\xe9"}',
        b'{"text": "five"}',
        b"null",
        b"{}",
    ]
    report = check_file(write(tmp_path, "rows.jsonl", b"\n".join(lines)))
    assert (report.rows_in, report.rows_kept) == (8, 2)
    assert [(found.rule, found.rows) for found in report.findings] == [("unreadable", [1, 3, 4, 5, 7, 8])]


def test_table_rows_with_the_wrong_number_of_cells_are_unreadable(tmp_path):
    content = b'prompt,response\na,b\nc\nd,e,f\n"g,\nh",i\n"j"k,l\n\nm,n\n'
    report = check_file(write(tmp_path, "rows.csv", content))
    assert (report.rows_in, report.rows_kept) == (6, 3)
    assert [(found.rule, found.rows) for found in report.findings] == [("unreadable", [2, 3, 5])]


@pytest.mark.parametrize(
    ("content", "texts", "evidence"),
    [
        (b"one\ntwo\r\nthree", ["one", "two", "three"], "each line"),
        (b"one\ntwo\n\n \n\nthree\nfour\n", ["one\ntwo", "three\nfour"], "each paragraph"),
        (b"\n\none\ntwo\n\n", ["one", "two"], "each line"),
    ],
)
def test_blank_lines_set_documents_of_plain_text_apart(content, texts, evidence, owner, tmp_path):
    path = write(tmp_path, "notes.txt", content)
    assert [row.text for row in import_file(path, owner).rows()] == texts
    assert any(evidence in sentence for sentence in recognize(path).evidence)


def test_a_long_array_is_read_as_a_stream_across_chunks(tmp_path):
    rows = [{"text": f"{number} " + "长" * (number * 37 % 5000)} for number in range(2000)]
    path = write(tmp_path, "long.json", json.dumps(rows, ensure_ascii=False, indent=1).encode())
    assert path.stat().st_size > 8_000_000
    report = check_file(path)
    assert (report.rows_in, report.rows_kept, report.findings) == (2000, 2000, [])


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("nested", [False, True])
def test_a_parquet_file_that_names_one_long_text_many_times_is_refused_unread(tmp_path, nested):
    once = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array(["a" * 1_000_000]))
    path = tmp_path / "bomb.parquet"
    texts = pa.ListArray.from_arrays(pa.array([0, 3000]), once) if nested else once
    parquet.write_table(pa.table({"text": texts}), path, compression="zstd")
    assert path.stat().st_size < 3000
    before = pa.total_allocated_bytes()
    with pytest.raises(UserError) as caught:
        check_file(path)
    assert caught.value.code == "data.expands"
    assert pa.total_allocated_bytes() - before < 100_000_000
