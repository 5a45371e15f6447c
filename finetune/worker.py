"""The process of a run: holds its lock for life, waits for its device before torch is imported, then trains.

python -m finetune.worker RUN_FOLDER --base FOLDER --lock FD --ticket FD --device NAME
"""

import argparse
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType

from core import words
from core.errors import UserError
from finetune.failures import explain
from finetune.journal import Journal
from finetune.launch.queue import wait_for_turn
from finetune.run import Run


class Stopped(BaseException):
    """Somebody asked to stop while the run was waiting."""


class StopSignal:
    """SIGTERM and SIGINT ask to stop: at once while waiting, at the next step while training. A second Ctrl-C kills."""

    def __init__(self) -> None:
        self.asked = False
        self.waiting = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heard)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if self.waiting:
            raise Stopped

    def __call__(self) -> bool:
        return self.asked


def main() -> int:
    """0 when the run is done, 1 when it failed or was stopped."""
    arguments = _arguments()
    for descriptor in (arguments.lock, arguments.ticket):
        os.set_inheritable(descriptor, False)
    words.speak(arguments.locale)
    run = Run(arguments.folder)
    journal = Journal(run, arguments.foreground)
    stop = StopSignal()
    try:
        _wait(run, arguments.device, stop, journal)
        from finetune.training import train

        return int(train(run, arguments.base, journal, stop))
    except Stopped:
        journal.write("stopped", step=run.progress().step)
    except BaseException as error:
        _fail(run, error, arguments.device, journal)
    return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--lock", type=int, required=True)
    parser.add_argument("--ticket", type=int, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--locale", default="en")
    parser.add_argument("--foreground", action="store_true")
    return parser.parse_args()


def _wait(run: Run, device: str, stop: StopSignal, journal: Journal) -> None:
    """Sleep until it is this run's turn. Raises Stopped."""
    stop.waiting = True
    if stop.asked:
        raise Stopped
    wait_for_turn(device, run.id, waiting=lambda: journal.say(words.say("run.phase.waiting", device=device)))
    stop.waiting = False


def _fail(run: Run, error: BaseException, device: str, journal: Journal) -> None:
    if not isinstance(error, UserError):
        journal.say(traceback.format_exc())
    step = run.progress().step
    sentence = explain(error, run.config(), step, device, run.folder)
    journal.write("failed", step=step, error=str(sentence))


if __name__ == "__main__":
    sys.exit(main())
