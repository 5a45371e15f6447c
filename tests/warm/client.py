"""The warm Python, seen from who starts it: give the server all that a fresh process would get, then be its shadow.

It takes Python's place in a command (`TUNESCOPE_PYTHON`): `-m MODULE`, `-c CODE` or a script, with `-u` before it. The
work is done by a process that the server forks. Signals go on to that process, its exit status becomes ours, and when
this process is killed, so is that one. It starts in some 15 ms, so it imports nothing that is not built in.
"""

import _signal
import _socket
import marshal
import os
import resource
import sys

FORWARDED = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2)
SMALL = 4


def main(address: str) -> None:
    """Hand over what this process was given, wait for the process that the server makes of it, and end as it ended."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.connect(address)
    descriptors = _descriptors(connection.fileno())
    order = marshal.dumps(_order(descriptors))
    header = len(order).to_bytes(SMALL, "big")
    rights = b"".join(number.to_bytes(SMALL, sys.byteorder) for number in descriptors)
    connection.sendmsg([header], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if descriptors else [])
    while order:
        order = order[connection.send(order) :]
    pid = int.from_bytes(_read(connection), "big")
    _forward(pid)
    _let_go(descriptors)
    _end(int.from_bytes(_read(connection), "big", signed=True))


def _order(descriptors: list[int]) -> dict:
    blocked = _signal.pthread_sigmask(_signal.SIG_BLOCK, FORWARDED)
    return {
        "arguments": sys.argv[1:],
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "descriptors": descriptors,
        "blocked": [int(number) for number in blocked],
        "ignored": [int(n) for n in FORWARDED if _signal.getsignal(n) == _signal.SIG_IGN],
        "session": os.getsid(0) == os.getpid(),
        "group": os.getpgrp() == os.getpid(),
        "largest_file": resource.getrlimit(resource.RLIMIT_FSIZE),
    }


def _descriptors(own: int) -> list[int]:
    """What a fresh process would find open: all that is inheritable, which Python's own descriptors are not."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            if number != own and (number < 3 or os.get_inheritable(number)):
                found.append(number)
        except OSError:
            continue
    return found


def _read(connection: _socket.socket) -> bytes:
    """Four bytes. Where the server has gone, the process has, too."""
    answer = connection.recv(SMALL, _socket.MSG_WAITALL)
    if len(answer) < SMALL:
        os.kill(os.getpid(), _signal.SIGKILL)
    return answer


def _forward(pid: int) -> None:
    """Pass signals on. They waited, blocked, until there was a process to pass them to."""

    def pass_on(number: int, frame: object) -> None:
        if os.path.exists(f"/proc/{pid}"):
            os.kill(pid, number)

    for number in FORWARDED:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, pass_on)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, FORWARDED)


def _let_go(descriptors: list[int]) -> None:
    """The process alone holds locks and pipes: who waits for their end waits for it."""
    nothing = os.open("/dev/null", os.O_RDWR)
    for number in descriptors:
        os.dup2(nothing, number) if number < 3 else os.close(number)


def _end(status: int) -> None:
    """Exit with its code, or by the signal that ended it (a negative status)."""
    if status >= 0:
        os._exit(status)
    if -status != _signal.SIGKILL:
        _signal.signal(-status, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (-status,))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), -status)
