"""For tests of what is kept: an audit hook that refuses what a mounted bucket need not give, and a child under it."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

from core import settings

ROOT = Path(__file__).parents[2]
_NEVER = ("os.rename", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.utime", "os.setxattr")


def forbid(folder: Path) -> list[str]:
    """From now on, in this process, files under `folder` can only be made anew, written, closed, read and removed.

    Returns a list that grows with the names of the new files. An audit hook cannot be taken away again.
    """
    made: list[str] = []
    whole = f"{folder}/"

    def inside(path: object) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and os.path.abspath(os.fsdecode(path)).startswith(whole)

    def watch(event: str, arguments: tuple) -> None:
        if event == "open" and inside(arguments[0]):
            path, flags = os.fsdecode(arguments[0]), arguments[2]
            writes = flags & (os.O_WRONLY | os.O_RDWR)
            if flags & os.O_APPEND or flags & os.O_RDWR or (writes and os.path.exists(path)):
                raise OSError(errno.EOPNOTSUPP, "a mounted bucket cannot do that", path)
            if writes:
                made.append(path)
        elif event in _NEVER and any(inside(argument) for argument in arguments):
            raise OSError(errno.EOPNOTSUPP, f"a mounted bucket has no {event}")
        elif event in ("fcntl.flock", "fcntl.lockf") and inside(os.readlink(f"/proc/self/fd/{arguments[0]}")):
            raise OSError(errno.ENOLCK, "a mounted bucket has no locks")

    sys.addaudithook(watch)
    return made


def refusals(folder: Path) -> list[str]:
    """What the hook refuses, tried: so that a test knows it is on."""
    file = folder / "tried"
    file.write_text("x")
    tries = {
        "append": lambda: file.open("a"),
        "overwrite": lambda: file.open("w"),
        "rename": lambda: file.rename(folder / "other"),
        "replace": lambda: os.replace(file, folder / "other"),
    }
    refused = []
    for name, work in tries.items():
        try:
            work()
        except OSError as error:
            refused += [name] if error.errno == errno.EOPNOTSUPP else []
    with file.open("rb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_SH)
        except OSError:
            refused.append("lock")
    file.unlink()
    return refused


def keep_in_a_child(home: Path, folder: Path) -> dict:
    """One round of restoring and copying by a process of its own, under the hook."""
    command = [settings.python(), "-m", "tests.tiny.keeping", str(home), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _main(home: Path, folder: Path) -> None:
    from finetune.backup.keeper import WorkspaceBackup
    from finetune.backup.places import FolderPlace

    made = forbid(folder)
    refused = refusals(folder)
    made.clear()
    keeper = WorkspaceBackup(FolderPlace(folder), home)
    told = {
        "refused": refused,
        "restored": keeper.restore(),
        "copied": keeper.copy_changed(),
        "again": keeper.copy_changed(),
    }
    print(json.dumps({**told, "made": made}))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
