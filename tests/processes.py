"""Looking at processes that may end at any moment."""

import psutil


def command_of(process: psutil.Process) -> list[str]:
    """The command line of a process; nothing where it has just ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
