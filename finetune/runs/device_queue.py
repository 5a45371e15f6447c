"""The queue of a device: numbered ticket files, each locked by its run. No server, no polling, nothing to clean up.

The active ticket with the smallest number has the device. A ticket is active as long as its lock is held, so a killed
run leaves the queue by itself.
"""

import fcntl
import glob
import os
import re
from collections.abc import Callable
from pathlib import Path

from core import settings

_TICKET = re.compile(r"(\d{8})-(.+)")


def device_of(wanted: str) -> str:
    """Return the name of the device that a run will use ("cpu", "mps", "cuda-0"), found without torch."""
    if wanted == "auto":
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
        wanted = "cuda" if glob.glob("/dev/nvidia[0-9]*") and not hidden else "cpu"
    return "cuda-0" if wanted == "cuda" else wanted.replace(":", "-")


def devices_of(wanted: str, processes: int) -> list[str]:
    """Return the devices of a run: one GPU per process, counted from the first; the processes of a CPU run share it."""
    first = device_of(wanted)
    if not first.startswith("cuda-"):
        return [first]
    number = int(first.removeprefix("cuda-"))
    return [f"cuda-{number + index}" for index in range(processes)]


def visible_devices(device: str) -> str:
    """Return the value of CUDA_VISIBLE_DEVICES with which only this device is visible."""
    if not device.startswith("cuda-"):
        return ""
    number = int(device.removeprefix("cuda-"))
    seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return seen[number] if number < len(seen) else str(number)


def draw_tickets(devices: list[str], run_id: str) -> list[int]:
    """Join the end of several queues at once: runs that share devices have the same order in each of their queues."""
    settings.home().joinpath(".queue").mkdir(parents=True, exist_ok=True)
    with open(settings.home() / ".queue" / "all", "ab") as together:
        fcntl.flock(together, fcntl.LOCK_EX)
        return [draw_ticket(device, run_id) for device in devices]


def draw_ticket(device: str, run_id: str) -> int:
    """Join the end of a device's queue. Returns a descriptor: while it (or a copy) is open, the place in the queue is
    kept."""
    folder = _folder(device)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "counter", "a+b") as counter:
        fcntl.flock(counter, fcntl.LOCK_EX)
        tickets = _tickets(folder)
        number = int(tickets[-1].name[:8]) + 1 if tickets else 1
        descriptor = os.open(folder / f"{number:08d}-{run_id}", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _sweep(tickets)
    return descriptor


def wait_for_turn(device: str, run_id: str, waiting: Callable[[], None]) -> None:
    """Sleep until every ticket before this run's is gone; `waiting` is called once if the run has to wait.

    A signal handler that raises ends the wait.
    """
    if not is_my_turn(device, run_id):
        waiting()
    folder = _folder(device)
    for ticket in _tickets(folder):
        if ticket.name.endswith(f"-{run_id}"):
            return
        _outlive(ticket)


def is_my_turn(device: str, run_id: str) -> bool:
    """Return whether no active ticket is before this run's."""
    for ticket in _tickets(_folder(device)):
        if ticket.name.endswith(f"-{run_id}"):
            return True
        if _living(ticket):
            return False
    return True


def is_free(device: str) -> bool:
    """Return whether no run uses the device or waits for it."""
    folder = _folder(device)
    return not folder.is_dir() or not any(map(_living, _tickets(folder)))


def _folder(device: str) -> Path:
    return settings.home() / ".queue" / device


def _tickets(folder: Path) -> list[Path]:
    """Return all tickets, active or not, in order."""
    return sorted(path for path in folder.iterdir() if _TICKET.fullmatch(path.name))


def _outlive(ticket: Path) -> None:
    try:
        with open(ticket, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return


def _living(ticket: Path) -> bool:
    try:
        with open(ticket, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False


def _sweep(tickets: list[Path]) -> None:
    """Delete the tickets of runs that have ended."""
    for ticket in tickets:
        if not _living(ticket):
            ticket.unlink(missing_ok=True)
