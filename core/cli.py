"""What both command lines share: setup, exit codes, and errors in the command line as one sentence."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from core import words
from core.errors import UserError
from core.runtime import no_bar_monitors, quiet_libraries, share_the_cores

BAD_INPUT, INTERRUPTED = 2, 130
"""Exit codes of every command: an error that a person can fix; Ctrl-C."""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UserError instead of printing the usage and exiting."""

    def error(self, message: str) -> NoReturn:
        raise UserError("run.shell.usage", reason=message[:1].upper() + message[1:], program=self.prog)


def set_up() -> None:
    """Set up this process as a command: quiet libraries, threads that share the cores, the language of the terminal."""
    share_the_cores()
    no_bar_monitors()
    quiet_libraries()
    words.speak(words.nearest(os.environ.get("LC_ALL") or os.environ.get("LANG")))


def run(parser: Callable[[], argparse.ArgumentParser], argv: list[str] | None) -> int:
    """Run the command that `argv` names and return its exit code.

    The exit code is 2, with one sentence on stderr, for an error that a person can fix, and 130 after Ctrl-C. A reader
    that closes the pipe early (`| head -1`) is no error.
    """
    set_up()
    try:
        arguments = parser().parse_args(argv)
        return int(arguments.run(arguments))
    except UserError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    finally:
        _flush()


def _flush() -> None:
    """Write what stdout still holds; where nobody reads it, drop it, so that the exit code stays."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
