"""Start the warm Python for a test session, and name it in the environment."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
VARIABLES = ("TUNESCOPE_PYTHON", "PYTHON_EXEC")
"""Ours, and that of `torch.distributed.run`, which starts the processes of a run on several devices."""
SCRIPT = """#!{python} -IS
import sys
sys.path.insert(0, {folder!r})
import client
client.main({address!r})
"""


def start_cold(patch: Any) -> None:
    """Let child processes start as they do for users: a new Python each, which imports everything itself. `patch` is a
    `pytest.MonkeyPatch`."""
    for name in VARIABLES:
        patch.delenv(name)


class WarmPython:
    """The server's socket is bound at once; what it imports is imported when the first process is wanted."""

    def __init__(self, folder: Path) -> None:
        address = str(folder / "warm.socket")
        self.program = folder / "python"
        self.program.write_text(
            SCRIPT.format(python=sys.executable, folder=str(Path(__file__).parent), address=address)
        )
        self.program.chmod(0o755)
        theirs, self._life = os.pipe()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen(128)
            command = [sys.executable, "-m", "tests.warm.server", str(listening.fileno()), str(theirs)]
            self._server = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=(listening.fileno(), theirs)
            )
        os.close(theirs)
        for name in VARIABLES:
            os.environ[name] = str(self.program)

    def end(self) -> None:
        """Let the server end. Processes it forked go on, as they would without it."""
        os.close(self._life)
        self._server.wait()
        for name in VARIABLES:
            del os.environ[name]
