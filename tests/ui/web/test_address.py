"""Which address the page takes, and what it says to one it cannot have."""

import os
import socket
import subprocess
import sys

import pytest

from app import main
from core.errors import UserError
from tests.app_process import ROOT
from ui.web import address
from ui.web.address import choose


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """An environment that names no address."""
    for name in ("GRADIO_SERVER_PORT", "GRADIO_SERVER_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def taken():
    """A port that somebody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_without_a_port_a_free_one_is_taken_from_7860_on():
    chosen = choose([])
    assert chosen.host == "127.0.0.1" and 7860 <= chosen.port <= 7959
    assert chosen.url == f"http://127.0.0.1:{chosen.port}"


def test_the_next_port_is_taken_where_one_is_in_use(taken, monkeypatch):
    monkeypatch.setattr(address, "FIRST_PORT", taken)
    monkeypatch.setattr(address, "LAST_PORT", taken + 50)
    assert taken < choose([]).port <= taken + 50


def test_the_variables_are_honoured_and_flags_come_first(monkeypatch, taken):
    monkeypatch.setenv("GRADIO_SERVER_NAME", "localhost")
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(taken))
    assert choose(["--port", "0"]).host == "localhost"
    with pytest.raises(UserError) as refused:
        choose([])
    assert refused.value.code == "page.port_taken" and str(taken) in str(refused.value)


@pytest.mark.parametrize("value", ["abc", "-1", "70000", "78 60", "7860.5"])
def test_a_port_that_is_none_is_named(value):
    with pytest.raises(UserError, match="is not a number from 0 to 65535"):
        choose([f"--port={value}"])


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_an_address_others_can_reach_wants_a_password(host, monkeypatch):
    with pytest.raises(UserError, match="TUNESCOPE_PASSWORD"):
        choose(["--host", host])
    monkeypatch.setenv("GRADIO_SERVER_NAME", host)
    with pytest.raises(UserError, match="TUNESCOPE_PASSWORD"):
        choose([])


def test_with_a_password_it_may_be_reached(monkeypatch):
    monkeypatch.setenv("TUNESCOPE_PASSWORD", "rhubarb")
    chosen = choose(["--listen", "0.0.0.0", "--port", "0"])
    assert (chosen.host, chosen.password) == ("0.0.0.0", "rhubarb")


def test_a_space_binds_without_one(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "ada/tunescope")
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    assert choose(["--port", "0"]).host == "0.0.0.0"


@pytest.mark.parametrize("arguments", [["--port", "nine"], ["--host", "0.0.0.0"], ["--port", "taken"]])
def test_an_address_it_cannot_have_ends_the_program_with_2_and_one_sentence(arguments, taken, monkeypatch, capsys):
    monkeypatch.setenv("LC_ALL", "C")
    assert main([str(taken) if argument == "taken" else argument for argument in arguments]) == 2
    told = capsys.readouterr()
    assert told.out == "" and len(told.err.splitlines()) == 1


def test_so_does_its_process():
    command, environment = [sys.executable, "app.py", "--port", "nine"], {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "Traceback" not in done.stderr
