"""Training: one attempt of a run, stage by stage.

The two functions here are for workers of older versions. Such a process waited for its device while the code was
updated; it has the older version in memory and imports the training code by its former names, `finetune.training.train`
or `finetune.launch.processes.train_together`. It is replaced by a worker of this version. Only the standard library is
imported, so that modules of the two versions do not mix.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

_WORKER = "finetune.launch.local.worker"


def train(run: object, base: object, journal: object, stop: Callable[[], bool], *more: object) -> NoReturn:
    """Replace this process by this version's worker, with the same arguments and with a stop that was requested."""
    _become(stop())


def train_together(
    run: object, base: object, device: str, on_stop: Callable[[Callable[[], None]], None], foreground: bool
) -> NoReturn:
    """Do the same for a run on several processes: `on_stop` calls its argument if a stop was requested."""
    requests: list[bool] = []
    on_stop(lambda: requests.append(True))
    _become(bool(requests))


def _become(stop_requested: bool) -> NoReturn:
    """Replace the process by the worker. It keeps its id, and the locks of the run and its place in the queue stay
    open."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lock", type=int, required=True)
    parser.add_argument("--tickets", type=int, nargs="+", required=True)
    given, _ = parser.parse_known_args(sys.argv[1:])
    for descriptor in (given.lock, *given.tickets):
        os.set_inheritable(descriptor, True)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    if stop_requested:
        os.kill(os.getpid(), signal.SIGTERM)  # blocked until the new worker listens
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", _WORKER, *sys.argv[1:]])
