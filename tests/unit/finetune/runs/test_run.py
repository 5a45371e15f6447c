"""The run folder: its status follows from the lock and the events, and it is found by id or folder."""

import fcntl
import os
import socket
import subprocess
import sys
import threading

import pytest

from core.errors import UserError
from core.files import write_json
from core.workspace import Owner
from finetune.config.run_config import load_yaml
from finetune.launch.local.launcher import LocalLauncher, _Launch
from finetune.runs.device_queue import draw_ticket, is_my_turn
from finetune.runs.lock import take
from finetune.runs.run import Run, create, find, list_runs

CONFIG_TEXT = "stages: [{data: [{dataset: abababababab}]}]"
CONFIG = load_yaml(CONFIG_TEXT)


@pytest.fixture
def run(owner):
    return create(CONFIG, owner)


@pytest.fixture
def hold():
    """Take a run's lock as its process would; returns what lets it go."""
    held = []

    def take(run):
        held.append(os.open(run.lock_path, os.O_RDWR | os.O_CREAT))
        fcntl.flock(held[-1], fcntl.LOCK_EX)
        return lambda: os.close(held.pop())

    yield take
    for descriptor in held:
        os.close(descriptor)


def test_the_status_is_computed_from_the_lock_and_the_events(run, hold):
    let_go = hold(run)
    run.log.write("queued", device="cpu")
    assert run.status().status == "queued"
    run.log.write("started", step=0, steps=5)
    run.log.write("train", step=2, steps=5, loss=1.5, tokens_per_s=20.0)
    run.log.write("eval", step=2, eval_loss=1.75)
    status = run.status()
    assert (status.status, status.step, status.steps, status.loss, status.eval_loss) == ("running", 2, 5, 1.5, 1.75)
    let_go()
    run.log_path.write_text("loading\nKilled by the kernel\n")
    status = run.status()
    assert status.status == "failed"
    assert "Killed by the kernel" in status.error and "Resume" in status.error
    run.log.write("stopped", step=2)
    assert (run.status().status, run.status().error) == ("stopped", None)
    run.log.write("queued", device="cpu")
    run.log.write("failed", step=2, error="The disk is full.")
    assert run.status().error == "The disk is full."


def test_looking_at_a_run_does_not_make_it_alive(run, hold):
    assert not run.alive()
    hold(run)
    assert run.alive() and run.alive()


def test_a_lock_is_taken_however_many_look_at_it_and_only_once(run):
    looking = threading.Event()

    def look():
        while not looking.is_set():
            run.alive()

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        held = take(run)
        with pytest.raises(UserError, match="still running"):
            take(run)
        os.close(held)
    looking.set()
    for thread in threads:
        thread.join()


def test_a_stop_never_reaches_a_process_that_has_the_number_of_an_earlier_one(run):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as innocent:
        write_json(run.folder / "handle.json", {"host": socket.gethostname(), "pid": innocent.pid})
        lock = take(run)
        with pytest.raises(UserError, match="nothing to stop"):
            LocalLauncher().stop(run)
        innocent.communicate(b"\n")
    os.close(lock)
    assert innocent.returncode == 0


def test_a_stop_that_comes_when_the_process_has_just_gone_gets_a_sentence(run):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lock = take(run)
    write_json(run.folder / "handle.json", {"host": socket.gethostname(), "pid": gone.pid})
    with pytest.raises(UserError, match="nothing to stop"):
        LocalLauncher().stop(run)
    os.close(lock)


def test_a_start_that_fails_leaves_nobody_waiting_behind_it(owner):
    first, second = (create(load_yaml(f"{CONFIG_TEXT}\ncompute: {{device: cpu}}"), owner) for _ in range(2))
    (first.folder / "events.jsonl").mkdir()
    lock = take(first)
    with pytest.raises(IsADirectoryError):
        _Launch(first, None, lock)
    os.close(lock)
    ticket = draw_ticket("cpu", second.id)
    assert is_my_turn("cpu", second.id)
    os.close(ticket)


def test_a_second_request_to_stop_does_not_disturb_the_first():
    """In a process of its own, which both signals really reach."""
    program = (
        "import os, signal\nfrom finetune.launch.local.worker import StopSignal, Stopped\n"
        "stop = StopSignal()\nstop.waiting = True\n"
        "try:\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "except Stopped:\n    os.kill(os.getpid(), signal.SIGTERM)\n    print('written down')\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "written down\n", result.stderr


def test_the_json_of_a_status_has_its_promised_keys(run):
    keys = ["id", "status", "step", "steps", "loss", "eval_loss", "tokens_per_s", "error", "folder"]
    assert list(run.status().to_json()) == keys


def test_a_run_is_found_by_its_id_and_by_its_folder(run, owner, monkeypatch):
    monkeypatch.chdir(run.folder.parent)
    for text in (run.id, str(run.folder), f"./{run.id}", f" {run.id}\n"):
        assert find(text, owner).folder == run.folder
    assert [found.id for found in list_runs(owner)] == [run.id]


def test_a_run_of_another_owner_is_not_found(run):
    stranger = Owner("someone-else")
    for text in (run.id, str(run.folder), f"../local/runs/{run.id}"):
        with pytest.raises(UserError):
            find(text, stranger)
    assert list_runs(stranger) == []


def test_the_log_tail_is_short_and_survives_bad_bytes(run):
    run.log_path.write_bytes(b"x" * 100_000 + b"\nprogress 1%\rprogress 2%\n\xff\xfe end\n")
    assert run.log_tail(2).splitlines()[0] == "progress 2%"
    assert "end" in run.log_tail(1)


def test_a_run_keeps_the_config_it_was_told(run):
    assert Run(run.folder).config() == CONFIG
