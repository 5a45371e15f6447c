"""How a command ends: bad input, Ctrl-C, and a reader that has seen enough."""

import os
import subprocess
import sys

import pytest

from tests.rules.source import ROOT

PROGRAM = """
import sys
from core import cli
from core.errors import UserError

def end(arguments):
    if arguments.how == "bad":
        raise UserError("core.no_run", value="r1")
    if arguments.how == "interrupted":
        raise KeyboardInterrupt
    print("line\\n" * 100_000 if arguments.how == "long" else "line")
    if arguments.how == "late":
        raise UserError("core.no_run", value="r1")
    return 3

def parser():
    made = cli.Parser("python -m program")
    made.add_argument("how")
    made.set_defaults(run=end)
    return made

sys.exit(cli.run(parser, None))
"""


def ended(*words, stdout=subprocess.PIPE):
    command = [sys.executable, *words]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(command, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment)


def closed_pipe():
    """A pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return write


def test_a_command_ends_with_its_own_code():
    done = ended("-c", PROGRAM, "well")
    assert (done.returncode, done.stdout, done.stderr) == (3, "line\n", "")


@pytest.mark.parametrize("words", [("bad",), (), ("well", "more")])
def test_bad_input_is_one_sentence_and_code_2(words):
    done = ended("-c", PROGRAM, *words)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_ctrl_c_is_code_130_without_a_traceback():
    done = ended("-c", PROGRAM, "interrupted")
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize(("how", "code", "sentences"), [("long", 0, 0), ("short", 3, 0), ("late", 2, 1)])
def test_a_reader_that_has_seen_enough_is_no_error(how, code, sentences):
    """What is long breaks the pipe while it is printed, what is short when all is printed and the code is known."""
    done = ended("-c", PROGRAM, how, stdout=closed_pipe())
    assert (done.returncode, len(done.stderr.splitlines())) == (code, sentences)


def test_so_it_is_with_help():
    done = ended("-c", PROGRAM, "--help", stdout=closed_pipe())
    assert (done.returncode, done.stderr) == (0, "")


def test_so_it_is_with_a_real_command():
    done = ended("-m", "finetune", "preset", stdout=closed_pipe())
    assert (done.returncode, done.stderr) == (0, "")
