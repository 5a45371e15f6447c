"""A disk that is full for real: a small file system of its own, which a test fills up."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str = "3m") -> Iterator[Path]:
    """The file system, at a new folder. The test is skipped where this machine does not let us have one.

    It is let go lazily: an error that a test holds may hold an open file on it.
    """
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs; a limit on the size of files is tried in its place")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder):
    """Write until not one byte more goes in."""
    with suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def make_room(folder):
    (folder / "ballast").unlink()
