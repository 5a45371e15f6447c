"""A finished run goes to a repository on the Hub: whole or not at all, with the caller's token and no other."""

import json
import threading

import pytest

from finetune.publish import prepare, push, read_push
from tests.hub.standin import TOKEN
from tests.refusals import refused

REPO = "tester/tea-adapter"
WITHOUT_TOKEN = {"front", "harnesses", "lfs_put"}


def wait_for(fault, thread):
    """Come back when a call is held by a fault; fail where the thread that should make it has ended."""
    while not fault.reached.wait(0.1):
        assert thread.is_alive(), "the call was never made"


def publish(run, owner, repo=REPO, **named):
    return push(prepare(run, repo, owner, **named), owner)


def test_the_preview_sends_nothing_and_names_what_will_lie_there(hub, finished, publisher):
    plan = prepare(finished, REPO, publisher)
    assert (plan.target, plan.private, hub.repos.keys()) == ("new", True, {("models", "tester/tiny-base")})
    publish(finished, publisher)
    for file in plan.files:
        assert hub.content(REPO, file.path) == file.content() and file.size == len(file.content())
    assert set(hub.repos["models", REPO].head.files) == {file.path for file in plan.files} | {".gitattributes"}


def test_a_push_makes_a_private_repository_in_one_commit_and_is_remembered(hub, finished, publisher):
    result = publish(finished, publisher)
    repo = hub.repos["models", REPO]
    assert repo.private and len(repo.commits) == 2 and repo.head.sha == result.commit
    assert result.url == f"{hub.url}/{REPO}" and read_push(finished) == result


def test_a_push_is_public_when_told_so(hub, finished, publisher):
    assert REPO in refused("publish.licence_needed", publish, finished, publisher, private=False)
    assert publish(finished, publisher, private=False, license="mit").private is False
    assert not hub.repos["models", REPO].private


def test_every_call_carries_the_token_of_the_caller_and_no_other(hub, finished, publisher, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.add_user("machine", token="hf_" + "themachines" * 3))
    publish(finished, publisher)
    for request in hub.requests:
        expected = None if request.kind in WITHOUT_TOKEN else f"Bearer {TOKEN}"
        assert request.authorization == expected, request


def test_progress_counts_the_bytes_up_to_the_whole(hub, finished, publisher):
    seen = []
    plan = prepare(finished, REPO, publisher)
    push(plan, publisher, progress=seen.append)
    done = [step.done for step in seen]
    assert done == sorted(done) and done[-1] == seen[-1].total == plan.size
    assert any("adapter_model.safetensors" in step.text for step in seen)


def test_a_connection_lost_before_the_commit_leaves_nothing_visible_and_a_second_push_completes_it(
    hub, finished, publisher
):
    hub.fail("commit", cut=True)
    assert "Publish again" in refused("publish.lost", publish, finished, publisher)
    assert set(hub.repos["models", REPO].head.files) == {".gitattributes"}
    assert prepare(finished, REPO, publisher).target == "empty"
    publish(finished, publisher)
    assert hub.kinds().count("lfs_put") == 1


def test_a_connection_lost_in_the_middle_of_a_file_is_said_and_a_second_push_completes_it(hub, finished, publisher):
    hub.fail("lfs_put", cut=True, times=6)
    assert REPO in refused("publish.lost", publish, finished, publisher)
    assert hub.kinds().count("lfs_put") == 6
    assert publish(finished, publisher).commit == hub.repos["models", REPO].head.sha


def test_a_short_break_of_the_connection_goes_unnoticed(hub, finished, publisher):
    hub.fail("lfs_put", cut=True)
    publish(finished, publisher)
    assert hub.content(REPO, "adapter_model.safetensors") == (finished.model / "adapter_model.safetensors").read_bytes()


def test_the_same_run_is_continued_and_what_it_left_out_is_taken_away(hub, finished, publisher):
    (finished.model / "added_tokens.json").write_text("{}")
    publish(finished, publisher)
    (finished.model / "added_tokens.json").unlink()
    assert prepare(finished, REPO, publisher).target == "same"
    publish(finished, publisher)
    assert "added_tokens.json" not in hub.repos["models", REPO].head.files


def test_publishing_twice_without_a_change_makes_no_second_commit(hub, finished, publisher):
    assert publish(finished, publisher).commit == publish(finished, publisher).commit
    assert len(hub.repos["models", REPO].commits) == 2


def test_a_repository_with_only_a_readme_counts_as_empty(hub, finished, publisher):
    hub.add_repo(REPO, {"README.md": b"# soon"}, private=True)
    assert prepare(finished, REPO, publisher).target == "empty"
    publish(finished, publisher)


@pytest.mark.parametrize(
    "files",
    [{"weights.bin": b"1"}, {"tunescope.json": b'{"run": "r20200101-000000-0000"}'}, {"tunescope.json": b"[1"}],
    ids=["other files", "another run", "a broken manifest"],
)
def test_what_lies_there_already_needs_an_explicit_yes_and_is_kept(hub, finished, publisher, files):
    repo = hub.add_repo(REPO, files, private=True)
    plan = prepare(finished, REPO, publisher)
    assert plan.target == "foreign" and any(REPO in warning for warning in plan.warnings)
    refused("publish.foreign", push, plan, publisher)
    assert len(repo.commits) == 2
    push(plan, publisher, confirmed=True)
    assert set(files) < set(repo.head.files) and len(repo.commits) == 3


def test_what_lies_there_and_stays_is_told_from_what_would_be_written_over(hub, finished, publisher):
    repo = hub.add_repo(REPO, {"weights.bin": b"1"}, private=True)
    assert any(
        "The push would not overwrite them" in warning for warning in prepare(finished, REPO, publisher).warnings
    )
    entry = hub.blobs.entry("tokenizer.json", b"{}")
    repo.add_commit({**repo.head.files, "tokenizer.json": entry}, "more")
    assert any(
        "would overwrite these files: tokenizer.json" in warning
        for warning in prepare(finished, REPO, publisher).warnings
    )


def test_a_base_may_be_called_as_the_folder_of_the_workspace(hub, finished, publisher, monkeypatch):
    monkeypatch.setenv("TUNESCOPE_CACHE", "/tea")
    assert prepare(finished, REPO, publisher).target == "new"


def test_a_record_without_a_size_is_read(finished):
    told = {"repo_id": REPO, "url": "http://hub", "commit": "c0", "private": True, "files": {}}
    (finished.folder / "published.json").write_text(json.dumps(told))
    assert read_push(finished).size == 0


def test_what_came_to_lie_there_after_the_preview_needs_an_explicit_yes(hub, finished, publisher):
    plan = prepare(finished, REPO, publisher)
    hub.add_repo(REPO, {"weights.bin": b"1"}, private=True)
    refused("publish.foreign", push, plan, publisher)


def test_a_public_repository_is_not_taken_for_a_private_push(hub, finished, publisher):
    plan = prepare(finished, REPO, publisher)
    hub.add_repo(REPO)
    refused("publish.is_public", prepare, finished, REPO, publisher)
    refused("publish.is_public", push, plan, publisher)
    assert prepare(finished, REPO, publisher, private=False).private is False


@pytest.mark.parametrize(
    ("files", "private", "code"),
    [(None, False, "publish.is_public"), ({"weights.bin": b"1"}, True, "publish.foreign")],
)
def test_what_somebody_else_made_at_that_moment_is_not_written_over(hub, finished, publisher, files, private, code):
    fault = hub.fail("create", hold=threading.Event(), status=503)
    plan, outcome = prepare(finished, REPO, publisher), []
    thread = threading.Thread(target=lambda: outcome.append(refused(code, push, plan, publisher)))
    thread.start()
    wait_for(fault, thread)
    repo = hub.add_repo(REPO, files, private=private)
    before = repo.head.sha
    fault.hold.set()
    thread.join()
    assert outcome and repo.head.sha == before


@pytest.mark.parametrize("content", [b" " * 1_000_001, b"[" * 200_000])
def test_a_file_that_is_called_as_ours_but_is_none_is_foreign_and_not_read(hub, finished, publisher, content):
    hub.add_repo(REPO, {"tunescope.json": content}, private=True)
    assert prepare(finished, REPO, publisher).target == "foreign"
    assert (len(content) > 1_000_000) == ("file" not in hub.kinds())


def test_a_private_repository_stays_private_and_the_preview_says_so(hub, finished, publisher):
    hub.add_repo(REPO, private=True)
    plan = prepare(finished, REPO, publisher, private=False)
    assert plan.private and any(
        "is private; the push does not change its visibility" in warning for warning in plan.warnings
    )


def test_a_change_by_somebody_else_in_the_middle_is_noticed(hub, finished, publisher):
    repo = hub.add_repo(REPO, private=True)
    fault = hub.fail("preupload", hold=threading.Event())
    outcome = []
    plan = prepare(finished, REPO, publisher)
    thread = threading.Thread(target=lambda: outcome.append(refused("publish.changed", push, plan, publisher)))
    thread.start()
    wait_for(fault, thread)
    repo.add_commit(dict(repo.head.files), "somebody else")
    fault.hold.set()
    thread.join()
    assert REPO in outcome[0] and repo.head.title == "somebody else"


def test_a_file_that_changed_after_the_preview_is_not_sent(hub, finished, publisher):
    plan = prepare(finished, REPO, publisher)
    (finished.model / "tokenizer_config.json").write_text("{}")
    assert "tokenizer_config.json" in refused("publish.file_changed", push, plan, publisher)
    assert ("models", REPO) not in hub.repos


def test_a_push_can_be_stopped_in_the_middle_of_a_file(hub, finished, publisher):
    stop = threading.Event()

    def stop_when_uploading(step):
        if "adapter_model" in step.text:
            stop.set()

    plan = prepare(finished, REPO, publisher)
    refused("publish.stopped", push, plan, publisher, progress=stop_when_uploading, stop=stop)
    assert set(hub.repos["models", REPO].head.files) == {".gitattributes"}
    push(plan, publisher)


def test_the_manifest_names_the_run_and_the_weights_of_the_base(hub, finished, publisher):
    publish(finished, publisher)
    manifest = json.loads(hub.content(REPO, "tunescope.json"))
    assert manifest["run"] == finished.id
    assert manifest["base_fingerprint"] == finished.environment()["fingerprint"]
    assert set(manifest["files"]) == set(hub.repos["models", REPO].head.files) - {".gitattributes", "tunescope.json"}


def test_the_adapter_names_its_base_as_others_find_it(hub, finished, publisher, tiny_model):
    assert json.loads((finished.model / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        tiny_model
    )
    publish(finished, publisher)
    assert json.loads(hub.content(REPO, "adapter_config.json"))["base_model_name_or_path"] == "tester/tiny-base"


def test_the_licence_of_the_base_is_carried_over_from_its_card(hub, finished, publisher):
    assert "license:" not in prepare(finished, REPO, publisher).card
    entry = hub.blobs.entry("README.md", b"---\nlicense: other\nlicense_name: tea\nlicense_link: LICENSE\n---\n# Base")
    hub.repos["models", "tester/tiny-base"].add_commit({"README.md": entry}, "card")
    card = prepare(finished, REPO, publisher).card
    assert "license: other\nlicense_name: tea\nlicense_link: LICENSE\n" in card
