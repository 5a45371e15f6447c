"""The queue of a device, with real processes that are really killed."""

import os
import signal
import subprocess
import sys

import pytest

from finetune.runs.device_queue import device_of, devices_of, draw_ticket, draw_tickets, is_my_turn, visible_devices

PROGRAM = """
import sys
from finetune.runs.device_queue import draw_ticket, wait_for_turn
ticket = draw_ticket("cpu", sys.argv[1])
print("drawn", flush=True)
wait_for_turn("cpu", sys.argv[1], waiting=lambda: print("waiting", flush=True))
print("turn", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def stand(workspace):
    """Start a process that draws a ticket and takes its turn until its input is closed."""
    started = []

    def start(name):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "drawn\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_runs_take_their_turns_in_the_order_they_came(stand):
    first, second, third = stand("first"), stand("second"), stand("third")
    assert first.stdout.readline() == "turn\n"
    assert second.stdout.readline() == third.stdout.readline() == "waiting\n"
    assert not is_my_turn("cpu", "third")
    first.communicate()
    assert second.stdout.readline() == "turn\n"
    second.communicate()
    assert third.stdout.readline() == "turn\n"


def test_a_killed_run_blocks_nobody_wherever_it_stands(stand):
    first, second, third = stand("first"), stand("second"), stand("third")
    assert third.stdout.readline() == "waiting\n"
    os.kill(second.pid, signal.SIGKILL)
    second.wait()
    os.kill(first.pid, signal.SIGKILL)
    assert third.stdout.readline() == "turn\n"


def test_tickets_of_the_gone_are_thrown_away(stand, workspace):
    for name in ("a", "b", "c"):
        stand(name).communicate()
    os.close(draw_ticket("cpu", "d"))
    assert [path.name for path in (workspace / ".queue" / "cpu").glob("0*")] == ["00000004-d"]


def test_a_device_has_one_name_however_it_is_asked_for(monkeypatch):
    assert device_of("cuda") == device_of("cuda:0") == "cuda-0"
    assert device_of("cpu") == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert visible_devices("cuda-1") == "7"
    assert visible_devices("cpu") == ""


def test_a_run_on_several_gpus_stands_in_the_queue_of_each(workspace):
    assert devices_of("cuda:1", 2) == ["cuda-1", "cuda-2"]
    assert devices_of("cpu", 4) == ["cpu"]
    first = draw_tickets(["cuda-0", "cuda-1"], "first")
    second = draw_tickets(["cuda-1", "cuda-2"], "second")
    assert [is_my_turn(device, "second") for device in ("cuda-1", "cuda-2")] == [False, True]
    for ticket in first:
        os.close(ticket)
    assert is_my_turn("cuda-1", "second")
    for ticket in second:
        os.close(ticket)
