"""A proxy that answers nothing and remembers who came: what a process would send to other machines is seen there."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY")


@dataclass
class WayOut:
    """Where it listens, and the first bytes of each connection that came."""

    url: str
    seen: list[bytes] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process send there all that is not for this very machine."""
        return {**dict.fromkeys(VARIABLES, self.url), "NO_PROXY": "127.0.0.1,localhost"}


@contextmanager
def watched() -> Iterator[WayOut]:
    """Listen until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        way = WayOut(f"http://127.0.0.1:{server.getsockname()[1]}")

        def listen() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    way.seen.append(connection.recv(200))

        threading.Thread(target=listen, daemon=True).start()
        yield way
