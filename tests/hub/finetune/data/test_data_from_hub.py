"""Datasets from the Hub: one split at one commit, with the caller's rights, every refusal in words."""

import io
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from core.errors import UserError
from core.hub import reach
from core.workspace import Owner
from finetune.data.importing.importer import import_file, import_hub
from finetune.data.limits import ImportLimits
from tests.hub.standin import TOKEN, USER

REPO = f"{USER}/rows"
ROWS = [{"prompt": f"p{number}", "completion": f"c{number}"} for number in range(10)]


@pytest.fixture(autouse=True)
def forget():
    reach.forget()
    yield
    reach.forget()


def lines(rows):
    return "\n".join(map(json.dumps, rows)).encode()


def shard(rows):
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def refused(owner, *arguments, token=False, **more):
    with pytest.raises(UserError) as caught:
        import_hub(*arguments, owner, token, **more)
    assert not list(owner.datasets.glob("*"))
    return caught.value.code, str(caught.value)


def test_shards_of_a_split_are_one_dataset_pinned_to_the_commit(hub, owner, tmp_path):
    name = "data/train-0000{}-of-00002.parquet"
    repo = hub.add_repo(
        REPO, {name.format(0): shard(ROWS[:6]), name.format(1): shard(ROWS[6:] + ROWS[:1])}, kind="datasets"
    )
    told = []
    dataset = import_hub(REPO, None, None, None, owner, False, progress=lambda done, total: told.append((done, total)))
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(ROWS))
    assert dataset.id == import_file(path, owner).id
    assert [(found.rule, found.rows) for found in dataset.report.findings] == [("duplicate", [11])]
    assert dataset.source == {
        "type": "hub",
        "repo_id": REPO,
        "revision": repo.head.sha,
        "config": "default",
        "split": "train",
    }
    assert told and all(0 < done <= total for done, total in told)


def test_an_older_revision_can_be_named(hub, owner):
    repo = hub.add_repo(REPO, {"rows.jsonl": lines(ROWS[:2])}, kind="datasets")
    old = repo.head.sha
    repo.add_commit({**repo.head.files, "rows.jsonl": hub.blobs.entry("rows.jsonl", lines(ROWS))}, "more")
    assert len(import_hub(REPO, None, None, None, owner, False).rows()) == 10
    assert len(import_hub(REPO, None, None, old, owner, False).rows()) == 2
    assert refused(Owner("other"), REPO, None, None, "0" * 40)[0] == "data.hub_revision"


def test_several_configs_or_splits_are_listed_until_one_is_chosen(hub, owner):
    files = {"en/train.jsonl": lines(ROWS), "en/test.jsonl": lines(ROWS[:3]), "fr/train.jsonl": lines(ROWS[:4])}
    hub.add_repo(REPO, files, kind="datasets")
    for arguments, code, choices in [
        ((None, None), "data.hub_which_config", "en, fr"),
        (("de", None), "data.hub_config", "en, fr"),
        (("en", None), "data.hub_which_split", "test, train"),
        (("en", "dev"), "data.hub_split", "test, train"),
    ]:
        found, sentence = refused(owner, REPO, *arguments, None)
        assert found == code and choices in sentence
    assert len(import_hub(REPO, "en", "test", None, owner, False).rows()) == 3
    assert len(import_hub(REPO, "fr", None, None, owner, False).rows()) == 4


def test_a_private_dataset_needs_its_owners_token_and_stays_in_no_shared_cache(hub, owner, tmp_path):
    hub.add_repo(REPO, {"rows.csv": b"prompt,completion\na,b\n"}, kind="datasets", private=True)
    assert refused(owner, REPO, None, None, None)[0] == "data.hub_missing"
    dataset = import_hub(REPO, None, None, None, owner, TOKEN)
    assert len(dataset.rows()) == 1
    assert TOKEN not in (dataset.folder / "report.json").read_text()
    assert not list((tmp_path / "hf-home").rglob("rows.csv"))


def test_a_gated_dataset_says_where_to_ask(hub, owner):
    hub.add_repo("acme/gated", {"rows.jsonl": lines(ROWS)}, kind="datasets", gated=True)
    hub.add_user("stranger", token="hf_" + "stranger" * 4)
    assert refused(owner, "acme/gated", None, None, None, token="hf_" + "stranger" * 4)[0] == "data.hub_gated"


def test_a_repository_without_rows_gets_a_sentence(hub, owner):
    hub.add_repo(REPO, {"README.md": b"# hello", "load.py": b"boom"}, kind="datasets")
    assert refused(owner, REPO, None, None, None)[0] == "data.hub_no_files"
    hub.add_repo(REPO, {"rows.jsonl": b"{broken\n{\n"}, kind="datasets")
    assert refused(owner, REPO, None, None, None)[0] == "data.nothing_readable"


def test_a_split_that_is_too_large_is_refused_before_it_is_fetched(hub, owner):
    hub.add_repo(REPO, {"rows.jsonl": lines(ROWS)}, kind="datasets")
    assert refused(owner, REPO, None, None, None, limits=ImportLimits(file_bytes=20))[0] == "data.hub_too_large"
    assert not any("rows.jsonl" in request.path for request in hub.requests)


@pytest.mark.parametrize(
    "name", ["rows", "/etc", "../x/y", "~/x", "a/b/c", "a b/c", "x/..", "", "r20261123-181502-3fa9"]
)
def test_what_is_no_name_of_a_repository_is_refused_before_any_request(name, hub, owner):
    code, sentence = refused(owner, name, None, None, None)
    assert code == "data.hub_name" and f'"{name}"' in sentence
    assert hub.requests == []


def test_without_the_hub_the_sentence_says_what_was_tried(hub, owner, monkeypatch):
    hub.add_repo(REPO, {"rows.jsonl": lines(ROWS)}, kind="datasets")
    fault = hub.fail("info", times=1000, cut=True)
    assert refused(owner, REPO, None, None, None)[0] == "data.hub_offline"
    assert fault.seen
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, sentence = refused(owner, REPO, None, None, None)
    assert code == "data.hub_offline" and "http://127.0.0.1:9" in sentence
