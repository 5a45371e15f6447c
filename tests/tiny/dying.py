"""For tests of killed processes: a child that kills itself, as the system would, at one moment of its work."""

import os
import signal
import subprocess
import sys

from core import settings
from tests.tiny.keeping import ROOT


def die_at(moment: str, text: str) -> None:
    """From now on the first audit event `moment` with `text` among its arguments is this process's end (SIGKILL)."""

    def watch(event: str, arguments: tuple) -> None:
        if event == moment and any(text in _words(argument) for argument in arguments):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def _words(argument: object) -> str:
    return os.fsdecode(argument) if isinstance(argument, str | bytes | os.PathLike) else repr(argument)


def killed_at(moment: str, text: str, *words: object) -> bool:
    """Run `python -m finetune WORDS` in a child until that moment. Returns whether SIGKILL ended it."""
    command = [settings.python(), "-m", "tests.tiny.dying", moment, text, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    return done.returncode == -signal.SIGKILL


if __name__ == "__main__":
    from finetune.cli.main import main

    die_at(sys.argv[1], sys.argv[2])
    sys.exit(main(sys.argv[3:]))
