"""The Hub stand-in answers the real client as the Hub would."""

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub.standin import TOKEN


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.url, token=TOKEN)


def status_of(error) -> int:
    return error.value.response.status_code


def test_a_folder_goes_up_in_one_commit_and_comes_down_again(hub, api, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text("{}")
    (source / "model.safetensors").write_bytes(bytes(range(256)) * 100)
    api.create_repo("tester/first", private=True)
    info = api.upload_folder(repo_id="tester/first", folder_path=source)
    assert hub.kinds().count("commit") == 1 and "lfs_put" in hub.kinds()
    folder = Path(api.snapshot_download("tester/first", revision=info.oid, cache_dir=tmp_path / "cache"))
    for path in source.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_unchanged_files_make_no_second_commit(hub, api):
    api.create_repo("tester/same")
    for _ in range(2):
        file = CommitOperationAdd("config.json", b"{}")
        api.create_commit("tester/same", [file], commit_message="once")
    assert hub.kinds().count("commit") == 1


def test_deleted_files_are_gone_and_old_revisions_stay(hub, api):
    repo = hub.add_repo("tester/old", {"a.json": b"1", "b/c.json": b"2"})
    first = repo.head.sha
    api.create_commit("tester/old", [CommitOperationDelete("a.json")], commit_message="less")
    assert api.list_repo_files("tester/old") == [".gitattributes", "b/c.json"]
    assert "a.json" in api.list_repo_files("tester/old", revision=first)
    assert [commit.title for commit in api.list_repo_commits("tester/old")] == ["less", "add files", "initial commit"]


def test_a_tree_comes_in_pages(hub, api):
    hub.add_repo("tester/pages", {f"f{number}.json": b"{}" for number in range(5)}, kind="datasets")
    hub.page_size = 2
    assert len(list(api.list_repo_tree("tester/pages", repo_type="dataset", recursive=True))) == 6
    assert hub.kinds().count("tree") == 3


def test_paths_info_tells_sizes(hub, api):
    hub.add_repo("tester/paths", {"a.json": b"12", "w.safetensors": b"123"})
    [small, large] = api.get_paths_info("tester/paths", ["a.json", "w.safetensors"])
    assert (small.size, large.lfs.size) == (2, 3)


def test_a_private_repository_shows_itself_to_its_owner_only(hub, api):
    other = hub.add_user("other")
    hub.add_repo("tester/secret", {"a.json": b"1"}, private=True)
    assert api.model_info("tester/secret").private
    for token in (other, False):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("tester/secret", token=token)


def test_a_gated_repository_keeps_its_files_until_access_is_granted(hub, api, tmp_path):
    other = hub.add_user("other")
    repo = hub.add_repo("tester/gated", {"a.json": b"1"}, gated=True)
    with pytest.raises(GatedRepoError):
        api.hf_hub_download("tester/gated", "a.json", token=other, local_dir=tmp_path)
    with pytest.raises(GatedRepoError):
        api.auth_check("tester/gated", token=other)
    repo.granted.add("other")
    api.hf_hub_download("tester/gated", "a.json", token=other, local_dir=tmp_path)


@pytest.mark.parametrize(
    ("namespace", "role", "expected"), [("acme", "write", None), ("else", "write", 403), ("tester", "read", 403)]
)
def test_creating_needs_a_right_to_the_namespace_and_a_token_that_may_write(hub, namespace, role, expected):
    api = HfApi(endpoint=hub.url, token=hub.add_user("tester", role=role))
    if expected is None:
        api.create_repo(f"{namespace}/new")
        return
    with pytest.raises(HfHubHTTPError) as error:
        api.create_repo(f"{namespace}/new")
    assert status_of(error) == expected


def test_a_wrong_token_is_told_so(hub):
    with pytest.raises(HfHubHTTPError) as error:
        HfApi(endpoint=hub.url).whoami("hf_wrong")
    assert status_of(error) == 401


def test_a_repository_that_exists_is_a_conflict_with_its_address(hub, api):
    api.create_repo("tester/twice")
    with pytest.raises(HfHubHTTPError) as error:
        api.create_repo("tester/twice")
    assert status_of(error) == 409
    assert api.create_repo("tester/twice", exist_ok=True).repo_id == "tester/twice"


def test_missing_files_and_revisions_are_named_as_such(hub, api, tmp_path):
    hub.add_repo("tester/little")
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download("tester/little", "nothing.json", local_dir=tmp_path)
    with pytest.raises(RevisionNotFoundError):
        api.model_info("tester/little", revision="no-such-branch")


def test_a_commit_on_an_outdated_parent_is_refused(hub, api):
    first = hub.add_repo("tester/race").commits[0].sha
    hub.repos["models", "tester/race"].add_commit({}, "somebody else")
    with pytest.raises(HfHubHTTPError) as error:
        api.create_commit("tester/race", [CommitOperationAdd("a", b"1")], commit_message="x", parent_commit=first)
    assert status_of(error) == 412


def test_faults_strike_at_the_call_a_test_names(hub, api):
    hub.fail("info", at=2, status=403, message="not today")
    hub.add_repo("tester/faulty")
    api.model_info("tester/faulty")
    with pytest.raises(HfHubHTTPError, match="not today"):
        api.model_info("tester/faulty")
    api.model_info("tester/faulty")


def test_a_cut_connection_is_an_error_of_the_network(hub, api):
    hub.fail("create", cut=True)
    with pytest.raises(Exception) as error:
        api.create_repo("tester/cut")
    assert not isinstance(error.value, HfHubHTTPError) and ("models", "tester/cut") not in hub.repos
    api.create_repo("tester/cut")


def test_every_call_is_recorded_with_the_token_it_carried(hub, api):
    api.create_repo("tester/x")
    api.model_info("tester/x", token=False)
    assert [request.authorization for request in hub.requests] == [f"Bearer {TOKEN}", None]


def test_it_runs_as_a_process_of_its_own(tiny_model):
    command = [sys.executable, "-m", "tests.hub.standin", "--port", "0", "--repo", f"tester/tiny={tiny_model}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        settings = dict(word.split("=") for word in process.stdout.readline().split())
        with urllib.request.urlopen(settings["HF_ENDPOINT"] + "/tester/tiny/resolve/main/config.json") as answer:
            assert answer.read() == (tiny_model / "config.json").read_bytes()
    finally:
        process.terminate()
        process.wait()
