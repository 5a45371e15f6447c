"""The process that has the libraries imported, and forks itself for each client.

python -m tests.warm.server LISTENING_DESCRIPTOR LIFE_DESCRIPTOR

It imports nothing before the first client comes, and ends when the other end of LIFE is closed. A client's process gets
the arguments, environment, folder, descriptors, signal mask and session that the client was started with.
"""

import array
import gc
import importlib
import io
import marshal
import os
import resource
import select
import signal
import socket
import sys

from tests.warm.client import FORWARDED, SMALL

MOST_DESCRIPTORS = 250
OUT_OF_THE_WAY = 500
"""Descriptors a client hands over are received from here on, so that each can then take its own number."""
LIBRARIES = (
    "torch",
    "transformers",
    "transformers.trainer",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
    "peft",
    "accelerate",
    "huggingface_hub",
    "huggingface_hub.hf_api",
    "safetensors.torch",
    "tokenizers",
    "pandas",
    "pyarrow.parquet",
    "jinja2",
    "gradio",
)
HUB_READERS = ("huggingface_hub", "transformers", "peft", "accelerate")
GRADIO_READS = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")


def serve(listening: socket.socket, life: int) -> dict | None:
    """Fork for each client until the tests end (None). In the forked process: what it was ordered to be."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    warm = False
    while True:
        ready, _, _ = select.select([listening, life], [], [])
        if life in ready:
            return None
        if not warm:
            for name in LIBRARIES:
                importlib.import_module(name)
            gc.collect()
            gc.freeze()
            warm = True
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            os.close(life)
            return _mind(connection)
        connection.close()


def _mind(connection: socket.socket) -> dict:
    """Fork the process, and stay as its parent: tell the client how it ended, and kill it when the client is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    order, received = _take(connection)
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become(order, received)
        return order
    for number in received:
        os.close(number)
    for number in (0, 1, 2):
        os.close(number)
    connection.sendall(pid.to_bytes(SMALL, "big"))
    ended = os.pidfd_open(pid)
    ready, _, _ = select.select([connection, ended], [], [])
    if ended not in ready:
        os.killpg(pid, signal.SIGKILL) if order["group"] else os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    try:
        connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(SMALL, "big", signed=True))
    finally:
        os._exit(0)


def _take(connection: socket.socket) -> tuple[dict, list[int]]:
    header, ancillary, _, _ = connection.recvmsg(SMALL, socket.CMSG_SPACE(MOST_DESCRIPTORS * SMALL))
    numbers = array.array("i")
    for _, _, data in ancillary:
        numbers.frombytes(data)
    if len(header) < SMALL:
        os._exit(0)
    text = connection.recv(int.from_bytes(header, "big"), socket.MSG_WAITALL)
    return marshal.loads(text), list(numbers)


def _become(order: dict, received: list[int]) -> None:
    """Take on what the client's process was given."""
    if order["session"]:
        os.setsid()
    elif order["group"]:
        os.setpgid(0, 0)
    above = [_moved(number) for number in received]
    for number, target in zip(above, order["descriptors"], strict=True):
        os.dup2(number, target, inheritable=True)
        os.close(number)
    os.chdir(order["folder"])
    resource.setrlimit(resource.RLIMIT_FSIZE, order["largest_file"])
    for number in order["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, order["blocked"])
    os.environ.clear()
    os.environ.update(order["environment"])
    _read_again()


def _moved(number: int) -> int:
    """The same descriptor, out of the way of those that are wanted."""
    import fcntl

    above = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY)
    os.close(number)
    return above


def _read_again() -> None:
    """What libraries read from the environment when they are imported is read again from the new one."""
    import tempfile

    import numpy
    import torch
    from huggingface_hub import constants, hf_api

    tempfile.tempdir = None
    before = {name: value for name, value in vars(constants).items() if name.isupper()}
    importlib.reload(constants)
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in HUB_READERS and module is not constants:
            for constant, value in before.items():
                if vars(module).get(constant) is value:
                    setattr(module, constant, getattr(constants, constant))
    hf_api.api.endpoint = constants.ENDPOINT
    for constant in GRADIO_READS:
        setattr(sys.modules["gradio.oauth"], constant, os.environ.get(constant))
    threads = os.environ.get("OMP_NUM_THREADS", "")
    torch.set_num_threads(int(threads) if threads.isdigit() else os.cpu_count() or 1)
    numpy.random.seed()


def run(arguments: list[str]) -> None:
    """Run `-m MODULE`, `-c CODE` or a script, as Python's command line does."""
    import runpy

    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    while arguments[0] == "-u":
        unbuffered, arguments = True, arguments[1:]
    _open_streams(unbuffered)
    sys.path[0] = ""
    if arguments[0] == "-m":
        sys.argv = ["-m", *arguments[2:]]
        sys.path[0] = os.getcwd()
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        main = type(sys)("__main__")
        sys.modules["__main__"] = main
        exec(compile(arguments[1], "<string>", "exec"), vars(main))
    else:
        sys.argv = arguments
        sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")


def _open_streams(unbuffered: bool) -> None:
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    for number, name in ((1, "stdout"), (2, "stderr")):
        line_by_line = number == 2 or os.isatty(number)
        errors = "backslashreplace" if number == 2 else "strict"
        binary = open(number, "wb", 0 if unbuffered else -1, closefd=False)  # noqa: SIM115
        stream = io.TextIOWrapper(binary, errors=errors, line_buffering=line_by_line, write_through=unbuffered)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    given = serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
    if given is not None:
        run(given["arguments"])
