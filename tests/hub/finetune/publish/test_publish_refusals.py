"""What cannot be published is refused in words that name the field, the value and the remedy, and nothing is sent."""

import pickle
import socket

import pytest

from core.words import speaking
from core.workspace import Owner
from finetune.publish import prepare, push
from tests.hub.finetune.publish.test_publish import REPO, publish
from tests.hub.standin import TOKEN
from tests.refusals import refused

pytestmark = pytest.mark.matrix

NAMES = ["", "tea", "a/b/c", "../x", "/etc", "tester/a b", "tester/a--b", "tester/" + "x" * 97, "tester/x.git"]
NAMES += ["tester/tea@main", "<b>x</b>/y", "r20261123-181502-3fa9", "deadbeef0123", "tester/\n"]


def never_sent(hub):
    return not {"create", "preupload", "commit"} & set(hub.kinds())


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_none_is_refused(hub, finished, publisher, name):
    assert name[:60] in refused("publish.repo_name", prepare, finished, name, publisher) and never_sent(hub)


def test_no_token_is_a_sentence_and_the_token_of_the_process_is_not_used(hub, finished, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "hf auth login" in refused("publish.no_token", prepare, finished, REPO, Owner("local"))
    monkeypatch.setenv("SPACE_ID", "tester/space")
    refused("core.sign_in", prepare, finished, REPO, Owner("somebody"))
    assert hub.requests == []


def test_a_wrong_token_is_told_so(hub, finished):
    assert hub.url in refused("publish.wrong_token", prepare, finished, REPO, Owner("local", "hf_wrong"))


def test_a_token_that_may_only_read_is_told_so(hub, finished):
    owner = Owner("local", hub.add_user("tester", role="read"))
    assert "tester" in refused("publish.read_only_token", prepare, finished, REPO, owner) and never_sent(hub)


def test_a_namespace_of_others_is_refused_with_those_that_work(hub, finished, publisher):
    sentence = refused("publish.no_namespace", prepare, finished, "google/tea", publisher)
    assert "google" in sentence and "tester, acme" in sentence
    assert prepare(finished, "acme/tea", publisher).target == "new"


def test_a_repository_without_write_access_is_refused(hub, finished, publisher):
    hub.add_repo(REPO, private=True)
    hub.fail("auth_check", status=403, message="You don't have write access")
    assert "write access" in refused("publish.no_right", prepare, finished, REPO, publisher)


def test_a_token_that_lost_its_rights_after_the_preview_is_refused(hub, finished, publisher):
    plan = prepare(finished, REPO, publisher)
    hub.accounts["tester"].tokens[TOKEN] = "read"
    assert REPO in refused("publish.no_right", push, plan, publisher)


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("create", 402, "publish.quota"),
        ("commit", 413, "publish.too_large"),
        ("create", 429, "publish.slow_down"),
        ("commit", 500, "publish.hub_broken"),
        ("commit", 418, "publish.refused"),
        ("commit", 401, "publish.wrong_token"),
        ("commit", 404, "publish.no_repository"),
        ("create", 409, "publish.changed"),
        ("validate", 400, "publish.card_refused"),
    ],
)
def test_each_refusal_of_the_hub_has_its_sentence_and_can_be_tried_again(hub, finished, publisher, kind, status, code):
    hub.fail(kind, status=status, message="because <b>so</b>", headers={"Retry-After": "17"})
    sentence = refused(code, publish, finished, publisher)
    assert ("17 seconds" in sentence) == (status == 429)
    assert TOKEN not in sentence and len(sentence) < 500
    publish(finished, publisher)


def test_a_hub_that_does_not_answer_is_told_at_once(hub, finished, publisher, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    assert "127.0.0.1" in refused("publish.unreachable", prepare, finished, REPO, publisher)


def test_offline_mode_is_named(hub, finished, publisher, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in refused("publish.offline", prepare, finished, REPO, publisher) and hub.requests == []


@pytest.mark.parametrize(("event", "word"), [("stopped", "stopped"), ("failed", "failed")])
def test_a_run_that_is_not_done_is_not_published(hub, finished, publisher, event, word):
    finished.log.write(event)
    assert word in refused("publish.not_done", prepare, finished, REPO, publisher) and hub.requests == []


FILES = {
    "training_args.bin": (b"anything", "publish.pickle"),
    "optimizer.pt": (b"anything", "publish.pickle"),
    "trainer_state.json": (b"{}", "publish.foreign_file"),
    "rows.parquet": (b"PAR1", "publish.foreign_file"),
    "notes.txt": (b"my notes", "publish.foreign_file"),
    ".env": (b"A=1", "publish.foreign_file"),
    "deeper/config.json": (b"{}", "publish.foreign_file"),
    "<img src=x onerror=alert(1)>.json": (b"{}", "publish.foreign_file"),
    "model.safetensors": (pickle.dumps({"weights": 1}), "publish.not_safetensors"),
    "special_tokens_map.json": (b'{"a": "hf_' + b"a1" * 17 + b'"}', "publish.token_inside"),
    "added_tokens.json": (b'{"a": ' + TOKEN.encode() + b"}", "publish.token_inside"),
    "generation_config.json": (b'{"_from": "/home/ada/models/x"}', "publish.path_inside"),
    "config.json": (b'{"_name_or_path": "C:\\\\Users\\\\ada\\\\x"}', "publish.path_inside"),
    "processor_config.json": (b"{broken", "publish.damaged"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_must_not_go_stops_everything_and_is_named(hub, finished, publisher, name):
    content, code = FILES[name]
    path = finished.model / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    assert name in refused(code, prepare, finished, REPO, publisher) and hub.requests == []


def test_a_link_out_of_the_folder_is_not_followed(hub, finished, publisher, tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    (finished.model / "config.json").symlink_to(tmp_path / "secret.json")
    assert "config.json" in refused("publish.foreign_file", prepare, finished, REPO, publisher)


def test_a_run_without_weights_is_not_published(hub, finished, publisher):
    (finished.model / "adapter_model.safetensors").unlink()
    assert finished.id in refused("publish.no_weights", prepare, finished, REPO, publisher)


def test_the_words_come_in_the_language_of_the_reader(hub, finished, publisher):
    with speaking("zh"):
        assert "不是有效的名称" in refused("publish.repo_name", prepare, finished, "x", publisher)
