"""The process of a run: holds its lock until it ends, waits for its device before torch is imported, then trains.

python -m finetune.launch.local.worker RUN_FOLDER --base FOLDER --lock FD --tickets FD... --devices NAME...
"""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

from core import words
from core.errors import UserError
from core.runtime import no_bar_monitors, quiet_libraries
from finetune.launch.local.warm_start import await_arguments
from finetune.runs.device_queue import wait_for_turn
from finetune.runs.failure_reasons import explain
from finetune.runs.log import Journal
from finetune.runs.run import Run


class Stopped(BaseException):
    """A stop was requested while the run was waiting."""


class StopSignal:
    """SIGTERM and SIGINT request a stop: at once while waiting, at the next step while training. A second Ctrl-C kills
    the process."""

    def __init__(self) -> None:
        self.stop_requested = False
        self.waiting = False
        self._tell: Callable[[], None] | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop_requested = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if self._tell:
            self._tell()
        if self.waiting:
            self.waiting = False
            raise Stopped

    def pass_on(self, tell: Callable[[], None]) -> None:
        """Call `tell` when a stop is requested; at once where one was."""
        self._tell = tell
        if self.stop_requested:
            tell()

    def __call__(self) -> bool:
        return self.stop_requested


def main() -> int:
    """Train and return 0 where the run is done, 1 where it failed or was stopped."""
    quiet_libraries()
    given = sys.argv[1:]
    if given[:1] == ["--ahead"]:
        received = await_arguments(int(given[1]))
        if received is None:
            return 0
        given = received
    arguments = _arguments(given)
    for descriptor in (arguments.lock, *arguments.tickets):
        os.set_inheritable(descriptor, False)
    words.speak(arguments.locale)
    no_bar_monitors()
    run = Run(arguments.folder)
    journal = Journal(run, arguments.foreground)
    stop = StopSignal()
    try:
        _wait(run, arguments.devices, stop, journal)
        return int(_train(run, arguments, stop, journal))
    except Stopped:
        journal.write("stopped", step=run.progress().step)
    except BaseException as error:
        _fail(run, error, arguments.devices[0], journal)
    return 1


def _arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--lock", type=int, required=True)
    parser.add_argument("--tickets", type=int, nargs="+", required=True)
    parser.add_argument("--devices", nargs="+", required=True)
    parser.add_argument("--locale", default="en")
    parser.add_argument("--foreground", action="store_true")
    return parser.parse_args(given)


def _wait(run: Run, devices: list[str], stop: StopSignal, journal: Journal) -> None:
    """Wait for this run's turn on its devices. Raises Stopped."""
    stop.waiting = True
    if stop.stop_requested:
        raise Stopped
    for device in devices:
        wait_for_turn(device, run.id, waiting=partial(_say_waiting, journal, device))
    stop.waiting = False


def _say_waiting(journal: Journal, device: str) -> None:
    journal.say(words.say("run.phase.waiting", device=device))


def _train(run: Run, arguments: argparse.Namespace, stop: StopSignal, journal: Journal) -> bool:
    """Train in this process, or in several that it starts. Returns whether the run was stopped."""
    if run.config().compute.processes > 1:
        from finetune.launch.local.processes import train_together

        return train_together(run, arguments.base, arguments.devices[0], stop.pass_on, arguments.foreground)
    from finetune.training.attempt import train

    return train(run, arguments.base, journal, stop)


def _fail(run: Run, error: BaseException, device: str, journal: Journal) -> None:
    """Record why the run failed; on a full disk there is room for it once unfinished files are deleted."""
    if not isinstance(error, UserError):
        journal.say(traceback.format_exc())
    progress = run.progress()
    sentence = explain(error, run.config(), progress.step, device, run.folder, progress.at_stage)
    run.sweep()
    journal.write("failed", step=progress.step, error=str(sentence))


if __name__ == "__main__":
    sys.exit(main())
