"""Where a server under test is to listen, and what one blocking look at it says."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import time
from typing import Final, TypeAlias

Address: TypeAlias = int | str
"""A port on loopback, or the path of a unix socket."""

LOOPBACK: Final = "127.0.0.1"
_PORTS: Final = range(20_000, 32_000)
"""Below the ports that the kernel gives to clients, so that none of them takes one before the server does."""
_LINE: Final = 1024
"""Bytes of an answer that are looked at."""
_chance = random.SystemRandom()  # the runs of one seed may stand side by side, and must not meet


class Claim:
    """A port on which nobody listens, and that none of us takes, in whatever process, as long as this is not closed.

    The kernel keeps no port for somebody else, so it is kept by a name: that of an abstract unix socket, which lives
    in the same network namespace as the port, and is gone with its process.

    Attributes:
        port: The port.

    Raises:
        OSError: When a hundred tries found none.
    """

    def __init__(self) -> None:
        self._name = socket.socket(socket.AF_UNIX)
        for _ in range(100):
            self.port = _chance.choice(_PORTS)
            with contextlib.suppress(OSError), socket.socket() as free:
                free.bind((LOOPBACK, self.port))
                self._name.bind(f"\0prodpatterns-port-{self.port}")
                return
        self._name.close()
        raise OSError("a hundred ports of this machine were tried, and all are taken")

    def close(self) -> None:
        """Give it up."""
        self._name.close()


def connect(address: Address, within: float) -> socket.socket:
    """Return a connection.

    Raises:
        OSError: When there is none within so many seconds.
    """
    if isinstance(address, int):
        return socket.create_connection((LOOPBACK, address), timeout=within)
    made = socket.socket(socket.AF_UNIX)
    try:
        made.settimeout(within)
        made.connect(address)
    except BaseException:
        made.close()
        raise
    return made


def status_of(address: Address, path: str, within: float = 1.0) -> int:
    """Return the status with which a path is answered on a new connection; 0 when it is not.

    Args:
        address: Where.
        path: What is asked for, by GET.
        within: Seconds for all of it.
    """
    until = time.monotonic() + within
    line = b""
    try:
        with connect(address, within) as asked:
            asked.sendall(f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n".encode())
            while b"\n" not in line and len(line) < _LINE:
                asked.settimeout(max(0.001, until - time.monotonic()))
                if not (more := asked.recv(_LINE)):
                    break
                line += more
    except OSError:
        return 0
    found = re.match(rb"HTTP/1\.[01] ([1-5]\d\d)\b", line)
    return int(found[1]) if found else 0
