"""What was pushed is fetched back by a fresh process and compared; the model card's example really runs."""

import errno
import json
import os
import re
import subprocess
import threading

import psutil
import pytest

from core import settings
from finetune.cli.publish import publish_command
from finetune.publish import PushResult, prepare, prove, push, read_proof
from finetune.publish.kinds import Options, build
from finetune.publish.proof.proof import compare
from finetune.publish.repo import remote
from tests.hub.conftest import copy_run
from tests.hub.finetune.publish.test_publish import REPO, WITHOUT_TOKEN, publish, wait_for
from tests.hub.standin import TOKEN
from tests.processes import command_of
from tests.refusals import refused


@pytest.mark.ci
def test_a_python_that_imports_everything_itself_proves_a_push(hub, finished, publisher, cold):
    pushed = publish(finished, publisher)
    assert prove(finished, REPO, pushed.commit, publisher).ok


def test_a_push_is_proved_in_a_fresh_process_that_keeps_the_token_to_itself(hub, finished, publisher):
    pushed = publish(finished, publisher)
    hub.requests.clear()
    fault = hub.fail("tree", path=REPO, hold=threading.Event())
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(prove(finished, REPO, pushed.commit, publisher)))
    thread.start()
    wait_for(fault, thread)
    [child] = [one for one in psutil.Process().children() if "finetune.publish.proof.prover" in command_of(one)]
    told = " ".join([*child.cmdline(), *child.environ().values()])
    fault.hold.set()
    thread.join()
    [proof] = outcome
    assert TOKEN not in told
    assert proof.ok and proof.logits_max_difference <= proof.tolerance and len(proof.files) == len(pushed.files)
    assert proof == read_proof(finished) and TOKEN not in (finished.folder / "proof.json").read_text()
    assert {request.authorization for request in hub.requests if request.kind not in WITHOUT_TOKEN} == {
        f"Bearer {TOKEN}"
    }
    assert not list(finished.folder.glob(".proof-*"))


def test_a_file_that_comes_back_changed_is_noticed_and_not_loaded(hub, finished, publisher):
    pushed = publish(finished, publisher)
    path = hub.blobs.path(pushed.files["adapter_model.safetensors"])
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    proof = prove(finished, REPO, pushed.commit, publisher)
    assert not proof.ok and [file.path for file in proof.files if not file.same] == ["adapter_model.safetensors"]
    assert proof.logits_max_difference is None and "adapter_model.safetensors" in proof.sentence()


def test_weights_that_answer_otherwise_than_those_here_are_noticed(hub, finished, publisher):
    import torch
    from safetensors.torch import load_file, save_file

    pushed = publish(finished, publisher)
    path = finished.model / "adapter_model.safetensors"
    save_file({name: weight + torch.ones_like(weight) for name, weight in load_file(path).items()}, path)
    proof = prove(finished, REPO, pushed.commit, publisher)
    assert not proof.ok and all(file.same for file in proof.files)
    assert proof.logits_max_difference > proof.tolerance and "logits" in proof.sentence()


def test_a_full_disk_is_told_from_a_lost_connection(hub, finished, publisher):
    pushed = publish(finished, publisher)

    def fill():
        with remote.in_words(REPO, publisher, lost="publish.lost_back"):
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError as error:
                raise RuntimeError("download failed") from error

    assert "TUNESCOPE_HOME" in refused("publish.no_room", fill)
    record = finished.folder / "published.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "size": 10**18}))
    assert REPO in refused("publish.no_room", prove, finished, REPO, pushed.commit, publisher)


@pytest.mark.parametrize(
    ("received", "difference", "same_tokens", "word"),
    [
        ("aa", 0.0, True, "Verified"),
        ("ab", 0.0, True, "x.json"),
        (None, None, None, "x.json"),
        ("aa", 0.01, True, "logits"),
        ("aa", None, False, "tokens"),
    ],
)
def test_one_difference_is_enough_and_is_named(received, difference, same_tokens, word):
    sent = PushResult(REPO, "http://hub", "c0", True, {"x.json": "aa"}, 2)
    files = {"x.json": received} if received else {}
    answer = {"files": files, "logits_max_difference": difference, "same_tokens": same_tokens}
    proof = compare(sent, "c0", answer, 1.0)
    assert proof.ok == (word == "Verified") and word in proof.sentence()


def test_a_connection_lost_on_the_way_back_is_a_sentence(hub, finished, publisher):
    pushed = publish(finished, publisher)
    hub.fail("tree", path=REPO, status=403, message="not today")
    assert "not today" in refused("publish.no_right", prove, finished, REPO, pushed.commit, publisher)
    assert read_proof(finished) is None


def test_a_proof_can_be_stopped(hub, finished, publisher):
    pushed = publish(finished, publisher)
    stop = threading.Event()
    refused(
        "publish.stopped", prove, finished, REPO, pushed.commit, publisher, stop_at("into an empty cache", stop), stop
    )
    assert not list(finished.folder.glob(".proof-*"))


def stop_at(word, stop):
    return lambda step: stop.set() if word in step.text else None


def test_only_what_was_pushed_from_here_is_proved(hub, finished, publisher):
    assert REPO in refused("publish.not_pushed", prove, finished, REPO, "main", publisher)


def test_a_base_with_other_weights_is_refused(hub, finished, publisher):
    pushed = publish(finished, publisher)
    recorded = {**finished.environment(), "fingerprint": "0" * 64}
    (finished.folder / "env.json").write_text(json.dumps(recorded))
    assert "tiny-base" in refused("publish.other_base", prove, finished, REPO, pushed.commit, publisher)


@pytest.mark.ci
def test_the_examples_of_the_cards_run_as_they_stand(hub, finished, publisher, trained, tmp_path):
    programs = []
    for run, repo in ((finished, REPO), (copy_run(trained["full"], publisher), "tester/tea-model")):
        plan = prepare(run, repo, publisher, private=False, license="mit")
        push(plan, publisher)
        programs += re.findall(r"```python\n(.*?)```", plan.card, re.DOTALL)
    built = build("presets", finished, publisher, tmp_path / "built", Options(columns=("nucleus top_p=0.9", "greedy")))
    plan = prepare(finished, "tester/presets", publisher, built=built, private=False, license="mit")
    push(plan, publisher)
    programs += re.findall(r"```python\n(.*?)```", plan.card, re.DOTALL)
    assert "| top\\_p | 0.9 |" in plan.card and "| presets/greedy.json | greedy |" in plan.card
    assert len(programs) == 3 and "PeftModel" in programs[0] and "PeftModel" not in programs[1]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "stranger")}
    command = [settings.python(), "-c", "\nprint('SECOND')\n".join(programs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(answer.strip() for answer in done.stdout.split("SECOND"))


def test_the_shell_prints_the_link_alone_and_proves_a_full_model(hub, publisher, trained, capsys):
    run = copy_run(trained["full"], publisher)
    assert publish_command(run.id, REPO, False, False, publisher) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{hub.url}/{REPO}\n"
    assert "model.safetensors" in printed.err and "Verified" in printed.err and TOKEN not in printed.err


def test_the_shell_says_by_its_exit_code_what_went_wrong(hub, finished, publisher, capsys, monkeypatch):
    assert publish_command(finished.id, "no-namespace", False, False, publisher) == 2
    assert publish_command("r20200101-000000-0000", REPO, False, False, publisher) == 2
    hub.add_repo("tester/other", {"a.json": b"1"}, private=True)
    assert publish_command(finished.id, "tester/other", False, False, publisher) == 2
    hub.fail("commit", cut=True)
    assert publish_command(finished.id, REPO, False, False, publisher) == 1
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert publish_command(finished.id, REPO, False, False, publisher) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "--yes" in printed.err
