"""The address of the page, from flags and environment, before anything heavy is loaded."""

import argparse
import ipaddress
import os
import socket
from dataclasses import dataclass

from core import settings
from core.errors import UserError
from core.words import nearest, say, speak

FIRST_PORT, LAST_PORT = 7860, 7959
USER = "tunescope"


@dataclass(frozen=True)
class Address:
    """Where to listen, and the password that visitors must enter (None: no password)."""

    host: str
    port: int
    password: str | None = None

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host and '[' not in host else host}:{self.port}"


def choose(arguments: list[str] | None = None) -> Address:
    """Read `--host` and `--port`, else `GRADIO_SERVER_NAME` and `GRADIO_SERVER_PORT`; without a port take a free one.

    Raises UserError for a port that is not a number or is in use, and for an address that others can reach without a
    password.
    """
    speak(nearest(os.environ.get("LC_ALL") or os.environ.get("LANG")))
    typed = _parser().parse_args(arguments)
    host = (typed.host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1").strip().strip("[]")
    if not loopback(host) and not settings.on_space() and not password():
        raise UserError("page.address_open", value=host)
    wanted = typed.port if typed.port is not None else os.environ.get("GRADIO_SERVER_PORT") or None
    return Address(host, _free_port(host) if wanted is None else _named_port(host, wanted), password())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python app.py", description=say("page.promise"))
    parser.add_argument("--host", "--listen", metavar="ADDRESS", help=say("page.flag_host"))
    parser.add_argument("--port", metavar="PORT", help=say("page.flag_port"))
    return parser


def password() -> str | None:
    """Return the password that the page asks for (`TUNESCOPE_PASSWORD`); None if it asks for none."""
    return os.environ.get("TUNESCOPE_PASSWORD") or None


def loopback(host: str) -> bool:
    """Return whether a name or address, without a port, can only mean this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _named_port(host: str, wanted: str) -> int:
    """Check the port that was set, and return it. 0 lets the system choose one."""
    try:
        port = int(wanted)
    except ValueError:
        raise UserError("page.port", value=str(wanted)[:40]) from None
    if not 0 <= port <= 65535:
        raise UserError("page.port", value=str(wanted)[:40])
    return _bind(host, port)


def _free_port(host: str) -> int:
    for port in range(FIRST_PORT, LAST_PORT + 1):
        if _is_free(host, port):
            return port
    raise UserError("page.no_port", first=FIRST_PORT, last=LAST_PORT)


def _is_free(host: str, port: int) -> bool:
    try:
        _bind(host, port)
    except UserError:
        return False
    return True


def _bind(host: str, port: int) -> int:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        raise UserError("page.host", value=host[:80]) from None
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise UserError("page.port_taken", host=host, port=port, reason=error.strerror or str(error)) from None
        return probe.getsockname()[1]
