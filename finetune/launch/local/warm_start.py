"""Start a run's process ahead: it imports what training needs while its starter checks config and data.

Both take some seconds, and a machine has more than one core. The process waits on a socket for the worker's arguments
and the open locks. It ends with its starter, however that ends.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from core import settings
from finetune.runs.child_environment import child_environment

PROJECT = Path(__file__).parents[3]
_LARGEST = 64 * 1024
_MOST_LOCKS = 256
_SET_PDEATHSIG = 1


class PrestartedWorker:
    """The starter's side. Use it as a context manager: a process that was given nothing to do ends with it."""

    def __init__(self, devices: list[str]) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        signals = {signal.SIGTERM, signal.SIGINT}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            self.process = subprocess.Popen(
                [settings.python(), "-m", "finetune.launch.local.worker", "--ahead", str(theirs.fileno())],
                cwd=PROJECT,
                env=child_environment(devices),
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                process_group=0,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def __enter__(self) -> "PrestartedWorker":
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()
        with contextlib.suppress(KeyboardInterrupt):
            self.process.wait()

    def become(self, arguments: list[str], locks: list[int]) -> NoReturn:
        """Send the worker's arguments and the open locks, the run's first; wait for the end and exit with its code.
        Ctrl-C and a request to end are passed on: the process is in a group of its own, so it receives each once."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._pass_on)
        socket.send_fds(self._socket, [json.dumps(arguments).encode()], locks)
        self._socket.close()
        for lock in locks:
            os.close(lock)
        code = self.process.wait()
        sys.exit(code if code >= 0 else 128 - code)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.process.send_signal(number)


def await_arguments(descriptor: int) -> list[str] | None:
    """Import what training needs, then wait for the arguments (the process's side). None if nothing is to do."""
    _end_with_starter()
    waiting = socket.socket(fileno=descriptor)
    import peft  # noqa: F401

    import finetune.training.attempt  # noqa: F401

    message, locks, _, _ = socket.recv_fds(waiting, _LARGEST, _MOST_LOCKS)
    waiting.close()
    if not message:
        return None
    return [*json.loads(message), "--lock", str(locks[0]), "--tickets", *map(str, locks[1:])]


def _end_with_starter() -> None:
    """Have this process killed when the starter dies (prctl(2)); without prctl a closed socket still ends it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL)
