"""Each call of a push meets each fault: one sentence, nothing half visible, and the next try works."""

import re
import threading

import pytest

from core.errors import UserError
from core.hub import retries
from finetune.publish import keep_in_card, prepare, push
from finetune.publish.proof.proof import compare
from tests.hub import routes
from tests.hub.finetune.publish.test_publish import REPO, publish
from tests.hub.standin import TOKEN
from tests.refusals import refused

pytestmark = pytest.mark.matrix

SAFE = ("info", "auth_check", "validate", "preupload", "lfs_batch", "lfs_put", "lfs_verify")
ONCE = ("create", "branch", "commit")
STATUSES = {
    401: "publish.wrong_token",
    403: "publish.no_right",
    404: "publish.no_repository",
    409: "publish.changed",
    412: "publish.changed",
    413: "publish.too_large",
    429: "publish.slow_down",
    500: "publish.hub_broken",
    503: "publish.hub_broken",
}
FULL = b'{"objects": [{"oid": "%s", "size": 1, "error": {"code": 507, "message": "The storage is full"}}]}'
HARMLESS = {"front", "harnesses"}


@pytest.fixture
def plan(hub, finished, publisher):
    """A push to a branch of a repository that is not there yet: it makes every call that a push can make."""
    made = prepare(finished, REPO, publisher, branch="tries")
    hub.heal()
    return made


def test_these_are_all_the_calls_of_a_push(hub, plan, publisher):
    push(plan, publisher)
    assert set(hub.kinds()) - HARMLESS == {*SAFE, *ONCE}


def whole_or_nothing(hub, plan):
    """The branch holds the whole push or nothing of it."""
    repo = hub.repos.get(("models", REPO))
    line = repo.branches.get("tries") if repo else None
    held = set(line[-1].files) - {".gitattributes"} if line else set()
    assert held in (set(), {file.path for file in plan.files})
    return bool(held)


def forget_the_weights(hub, plan):
    """Nothing was uploaded yet, so that every call of an upload is made again."""
    for file in plan.files:
        if file.path.endswith(".safetensors"):
            hub.blobs.path(file.sha256).unlink(missing_ok=True)


def the_next_try_works(hub, plan, publisher):
    whole_or_nothing(hub, plan)
    hub.heal()
    push(plan, publisher)
    assert whole_or_nothing(hub, plan)


@pytest.mark.parametrize("kind", [*SAFE, *ONCE])
def test_a_refusal_at_any_call_is_one_sentence_and_the_next_try_works(hub, plan, publisher, kind):
    for status, code in STATUSES.items():
        if (kind, status) == ("info", 404):
            continue
        hub.heal()
        hub.fail(kind, status=status, message="because <b>so</b>", times=50)
        sentence = refused(code, push, plan, publisher)
        assert TOKEN not in sentence and "Traceback" not in sentence and len(sentence) < 600
        assert not whole_or_nothing(hub, plan)
        forget_the_weights(hub, plan)
    the_next_try_works(hub, plan, publisher)


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429, "headers": {"Retry-After": "1"}}, {"cut": True}])
def test_safe_calls_are_made_again_until_they_are_answered(hub, plan, publisher, fault):
    for kind in SAFE:
        hub.fail(kind, times=2, **fault)
    push(plan, publisher)
    assert whole_or_nothing(hub, plan)
    assert all(hub.kinds().count(kind) >= 3 for kind in SAFE)


@pytest.mark.parametrize("kind", [*SAFE, *ONCE])
def test_a_connection_that_is_cut_at_any_call_is_one_sentence(hub, plan, publisher, kind):
    hub.fail(kind, cut=True, times=50)
    with pytest.raises(UserError) as caught:
        push(plan, publisher)
    assert caught.value.code in ("publish.lost", "publish.unreachable"), str(caught.value)
    the_next_try_works(hub, plan, publisher)


@pytest.mark.parametrize("kind", ONCE)
def test_an_answer_that_was_lost_is_looked_for_and_found(hub, plan, publisher, kind):
    hub.fail(kind, lost=True)
    result = push(plan, publisher)
    line = hub.repos["models", REPO].branches["tries"]
    assert line[-1].sha == result.commit and len(line) == 2 and result.changed


@pytest.mark.parametrize("kind", ONCE)
def test_where_nothing_can_be_found_out_that_is_what_is_said(hub, plan, publisher, kind):
    hub.fail(kind, lost=True)
    looked_at_before = {"create": 1, "branch": 3, "commit": 5}[kind]
    hub.fail("info", at=looked_at_before + 1, times=50, status=503)
    sentence = refused("publish.not_known", push, plan, publisher)
    assert f"{hub.url}/{REPO}" in sentence and "publish again" in sentence
    the_next_try_works(hub, plan, publisher)
    assert len(hub.repos["models", REPO].branches["tries"]) == 2


@pytest.mark.parametrize("kind", ["commits", "tree", "discussions"])
def test_a_hub_that_never_answers_a_question_ends_in_a_sentence(hub, finished, publisher, changed, kind, monkeypatch):
    monkeypatch.setattr(retries, "patience", retries.Patience(answer=0.1, tries=1, wait_scale=0.001))
    fault = hub.fail(kind, hold=threading.Event(), times=50)
    try:
        with pytest.raises(UserError) as caught:
            prepare(finished, REPO, publisher, pull_request=kind == "discussions")
        assert caught.value.code == "publish.unreachable"
    finally:
        fault.hold.set()


@pytest.mark.parametrize("kind", [*SAFE, *ONCE])
def test_a_hub_that_never_answers_ends_in_a_sentence(hub, plan, publisher, kind, monkeypatch):
    monkeypatch.setattr(retries, "patience", retries.Patience(answer=0.1, tries=1, wait_scale=0.001))
    fault = hub.fail(kind, hold=threading.Event(), cut=True, times=50)
    try:
        with pytest.raises(UserError) as caught:
            push(plan, publisher)
        assert caught.value.code in ("publish.lost", "publish.unreachable", "publish.not_known"), str(caught.value)
    finally:
        fault.hold.set()
    monkeypatch.setattr(retries, "patience", retries.Patience(wait_scale=0.001))
    the_next_try_works(hub, plan, publisher)


def test_a_hub_that_asks_for_a_long_wait_is_not_waited_for(hub, plan, publisher):
    for kind in ("info", "preupload", "lfs_batch"):
        hub.heal()
        hub.fail(kind, status=429, headers={"Retry-After": "3600"}, times=50)
        assert "3600 seconds" in refused("publish.slow_down", push, plan, publisher)
        assert hub.kinds().count(kind) == 1


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_a_refusal_at_the_first_question_is_a_sentence(hub, finished, publisher, status):
    hub.fail("whoami", status=status, times=50)
    refused(STATUSES[status], prepare, finished, REPO, publisher)
    hub.heal()
    publish(finished, publisher)


@pytest.mark.parametrize(
    ("pattern", "kind", "answer", "code", "word"),
    [
        (r"/api/models/.*/preupload/.*", "preupload", b"<html>Please sign in</html>", "publish.strange", "HF_ENDPOINT"),
        (r"/api/models/.*/preupload/.*", "preupload", b'{"files": [{"path": "a"}]}', "publish.strange", "HF_ENDPOINT"),
        (r"/api/validate-yaml", "validate", b"<html>Please sign in</html>", "publish.strange", "HF_ENDPOINT"),
        (r"/api/models/.*/commit/.*", "commit", b"<html>Wait</html>", "publish.strange", "HF_ENDPOINT"),
        (r"/.*/objects/batch", "lfs_batch", b"{}", "publish.strange", "HF_ENDPOINT"),
        (r"/.*/objects/batch", "lfs_batch", FULL, "publish.refused", "storage is full"),
    ],
)
def test_answers_that_are_none_of_the_hubs_are_told_from_its_own(
    hub, plan, publisher, pattern, kind, answer, code, word
):
    kept = list(routes.ROUTES)
    routes.ROUTES.insert(0, ("POST", pattern, kind, lambda call: give(call, answer)))
    try:
        assert word in refused(code, push, plan, publisher)
    finally:
        routes.ROUTES[:] = kept
    the_next_try_works(hub, plan, publisher)


def give(call, answer):
    oid = re.search(rb'"oid": ?"(\w+)"', call.body())
    call.send(200, answer % oid[1] if answer is FULL else answer, {"Content-Type": "application/json"})


@pytest.mark.parametrize("fault", [{"status": 500}, {"lost": True}, {"cut": True}])
def test_a_lost_answer_to_a_pull_request_opens_no_second_one(hub, finished, publisher, fault):
    hub.add_user("grace")
    others = hub.add_repo("grace/coffee", {"README.md": b"# coffee"})
    plan = prepare(finished, "grace/coffee", publisher, private=False, license="mit", pull_request=True)
    hub.heal()
    hub.fail("commit", **fault)
    if "lost" in fault:
        assert push(plan, publisher).pull_request == 1
    else:
        with pytest.raises(UserError):
            push(plan, publisher)
        assert others.pulls == []
    assert push(plan, publisher).pull_request == 1 and len(others.pulls) == 1


QUESTIONS = ("info", "auth_check", "discussions", "commits", "tree", "head", "file", "validate")
CUT = {"cut": True}
ANSWERS = {403: "publish.no_right", 429: "publish.slow_down", 500: "publish.hub_broken", None: "publish.unreachable"}


@pytest.fixture
def changed(hub, finished, publisher):
    """A push that somebody changed afterwards, and a pull request of ours beside it: a look asks everything."""
    publish(finished, publisher)
    repo = hub.repos["models", REPO]
    repo.add_commit({**repo.head.files, "extra.txt": hub.blobs.entry("extra.txt", b"1")}, "more", by="grace")


@pytest.mark.parametrize("kind", QUESTIONS)
def test_a_preview_meets_faults_at_each_of_its_questions_with_a_sentence(hub, finished, publisher, changed, kind):
    look = {"pull_request": kind == "discussions"}
    for status, code in ANSWERS.items():
        if (kind, status) == ("file", None):
            continue
        hub.heal()
        hub.fail(kind, path=REPO if kind != "validate" else "", times=50, **({"status": status} if status else CUT))
        refused(code, prepare, finished, REPO, publisher, **look)
    hub.heal()
    hub.fail(kind, path=REPO if kind != "validate" else "", times=2, status=503)
    assert prepare(finished, REPO, publisher, **look).target == "same"


@pytest.mark.parametrize("fault", [{"lost": True}, {"cut": True}, {"status": 500}])
def test_a_proof_whose_answer_was_lost_stands_in_the_card_once(hub, finished, publisher, fault):
    pushed = publish(finished, publisher)
    proof = proof_of(pushed)
    commits = hub.repos["models", REPO].commits
    hub.fail("commit", **fault)
    if "lost" in fault:
        keep_in_card(finished, proof, publisher)
    else:
        with pytest.raises(UserError):
            keep_in_card(finished, proof, publisher)
        assert len(commits) == 2
    hub.heal()
    kept = keep_in_card(finished, proof, publisher)
    assert len(commits) == 3 and commits[-1].sha == kept.card_commit


def test_a_proof_put_there_by_another_machine_is_no_change_by_others(hub, finished, publisher):
    pushed = publish(finished, publisher)
    keep_in_card(finished, proof_of(pushed), publisher)
    (finished.folder / "published.json").unlink()
    assert prepare(finished, REPO, publisher).difference is None


def proof_of(pushed):
    return compare(pushed, pushed.commit, {"files": pushed.files, "logits_max_difference": 0.0, "same_tokens": True}, 1)


@pytest.mark.parametrize("kind", ["lfs_part", "lfs_done"])
def test_an_upload_in_parts_meets_faults_like_one_in_a_piece(hub, plan, publisher, kind):
    hub.part_size = 5000
    for fault in ({"status": 403}, {"status": 500}, {"cut": True}):
        hub.heal()
        hub.fail(kind, times=50, **fault)
        with pytest.raises(UserError) as caught:
            push(plan, publisher)
        assert caught.value.code == ("publish.lost" if "cut" in fault else STATUSES[fault["status"]])
        assert not whole_or_nothing(hub, plan)
    hub.heal()
    hub.fail(kind, status=503)
    seen = []
    push(plan, publisher, progress=seen.append)
    assert whole_or_nothing(hub, plan) and "lfs_put" not in hub.kinds() and seen[-1].done == plan.size
    weights = next(file for file in plan.files if file.path.endswith(".safetensors"))
    assert hub.blobs.path(weights.sha256).read_bytes() == weights.content()
