"""Large files go through Xet storage: the same repository, progress and sentences as without it."""

import socket
import threading
from dataclasses import replace

import pytest

from core.errors import UserError
from core.hub import retries
from finetune.publish import prepare, push
from tests.hub.finetune.publish.test_publish import REPO
from tests.hub.finished_run import BASE_ID
from tests.refusals import refused

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def with_xet(monkeypatch, hub, tmp_path):
    """The client as it is where nobody switched Xet off."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_DISABLE_XET", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)


def test_a_push_with_xet_leaves_the_same_files_as_one_without(hub, with_xet, finished, publisher):
    seen = []
    plan = prepare(finished, REPO, publisher)
    result = push(plan, publisher, progress=seen.append)
    assert "xet_grant" in hub.kinds() and not {"lfs_batch", "lfs_put"} & set(hub.kinds())
    for file in plan.files:
        assert hub.content(REPO, file.path) == file.content()
    done = [step.done for step in seen]
    assert done == sorted(done) and done[-1] == plan.size and result.commit == hub.repos["models", REPO].head.sha
    assert any(WEIGHTS in step.text for step in seen)


def test_the_commit_does_not_upload_again_what_was_uploaded(hub, with_xet, finished, publisher):
    """A second pass would read every file once more, untold and not to be stopped."""
    push(prepare(finished, REPO, publisher), publisher)
    assert hub.kinds().count("xet_grant") == 1


def test_an_interrupted_push_continues_and_a_second_one_changes_nothing(hub, with_xet, finished, publisher):
    hub.fail("commit", cut=True)
    plan = prepare(finished, REPO, publisher)
    refused("publish.lost", push, plan, publisher)
    pieces = stored(hub)
    assert pieces and push(plan, publisher).changed
    assert stored(hub) == pieces
    hub.requests.clear()
    assert not push(prepare(finished, REPO, publisher), publisher).changed and "xet_grant" not in hub.kinds()


def stored(hub):
    """The pieces of content in the storage."""
    return {path.name for path in hub.xet.folder.glob("xet/xorbs/xorbs/*") if not path.name.endswith(".tagset")}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"status": 401}, "publish.wrong_token"),
        ({"status": 403}, "publish.no_right"),
        ({"status": 404}, "publish.no_repository"),
        ({"status": 413}, "publish.too_large"),
        ({"status": 429}, "publish.slow_down"),
        ({"status": 500}, "publish.hub_broken"),
        ({"cut": True}, "publish.lost"),
    ],
)
def test_a_right_to_upload_that_is_refused_is_a_sentence(hub, with_xet, finished, publisher, fault, code):
    plan = prepare(finished, REPO, publisher)
    hub.fail("xet_grant", times=50, **fault)
    refused(code, push, plan, publisher)
    hub.heal()
    assert push(plan, publisher).changed


def test_a_right_to_upload_is_asked_for_again_after_a_short_break(hub, with_xet, finished, publisher):
    hub.fail("xet_grant", status=503, times=2)
    push(prepare(finished, REPO, publisher), publisher)
    assert hub.kinds().count("xet_grant") >= 3


def test_a_storage_that_takes_nothing_is_a_sentence(hub, with_xet, finished, publisher, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setattr(hub.xet, "folder", blocked)
    plan = prepare(finished, REPO, publisher)
    assert REPO in refused("publish.lost", push, plan, publisher)


def test_a_stopped_upload_ends_and_the_next_one_completes_it(hub, with_xet, finished, publisher):
    stop = threading.Event()
    plan = prepare(finished, REPO, publisher)
    refused(
        "publish.stopped",
        push,
        plan,
        publisher,
        progress=lambda step: stop.set() if "Uploading" in step.text else None,
        stop=stop,
    )
    assert set(hub.repos["models", REPO].head.files) == {".gitattributes"}
    push(plan, publisher)


def test_a_pull_request_goes_the_same_way_with_xet(hub, with_xet, finished, publisher):
    hub.add_user("grace")
    others = hub.add_repo("grace/coffee", {"README.md": b"# coffee"})
    plan = prepare(finished, "grace/coffee", publisher, private=False, license="mit", pull_request=True)
    assert push(plan, publisher).pull_request == 1
    [grant] = [request.path for request in hub.requests if request.kind == "xet_grant"]
    assert grant.endswith("/xet-write-token/None?create_pr=1") and len(others.commits) == 2
    assert BASE_ID.split("/")[0] == others.pulls[0].author


def test_a_storage_that_never_answers_is_a_sentence(hub, with_xet, finished, publisher, monkeypatch):
    plan = prepare(finished, REPO, publisher)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with monkeypatch.context() as patch:
            patch.setattr(type(hub.xet), "address", address)
            patch.setattr(retries, "patience", replace(retries.patience, answer=1.0))
            with pytest.raises(UserError) as caught:
                push(plan, publisher)
    assert caught.value.code in ("publish.lost", "publish.unreachable"), str(caught.value)
    assert push(plan, publisher).changed
