"""Sources of what the kernel knows of sockets, and the trial that each must pass before it is believed.

A table can be there and be empty, or hold zeroes (in sandboxes that only resemble Linux).  So a source must see a
small listener of our own with everything that is known of it.
"""

from __future__ import annotations

import functools
import os
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

from pytest_prodpatterns.targets._family import wait_until
from pytest_prodpatterns.targets.server import _sockets_netlink, _sockets_proc
from pytest_prodpatterns.targets.server._sockets_rows import ESTABLISHED, LISTEN, UNKNOWN, TcpRow, UnixRow

TcpSource: TypeAlias = Callable[[int, frozenset[int]], list[TcpRow]]
UnixSource: TypeAlias = Callable[[str], list[UnixRow]]

_LIMIT: Final = 3
_ARRIVAL: Final = 1.0
"""Seconds for a connection over loopback, and what was sent over it, to arrive on a busy machine."""


@functools.cache
def tcp_sources() -> tuple[TcpSource, ...]:
    """Return the sources that passed, the better one first."""
    return tuple(source for source in (_sockets_netlink.tcp, _sockets_proc.tcp) if _sees_tcp(source))


@functools.cache
def unix_sources() -> tuple[UnixSource, ...]:
    """Return the sources that passed, the better one first."""
    return tuple(source for source in (_sockets_netlink.unix, _sockets_proc.unix) if _sees_unix(source))


def _sees_tcp(source: TcpSource) -> bool:
    with suppress(Exception), socket.create_server(("127.0.0.1", 0), backlog=_LIMIT) as server:
        (host, port), inode = server.getsockname(), os.fstat(server.fileno()).st_ino
        with socket.create_connection((host, port), timeout=5.0) as client:
            client.sendall(b"hello")
            listener = TcpRow(socket.inet_aton(host), 0, inode, 1, _LIMIT)
            peer = TcpRow(listener.address, client.getsockname()[1], 0, 5, UNKNOWN)

            def seen() -> bool:
                told = source(port, frozenset({LISTEN})), source(port, frozenset({ESTABLISHED}))
                return told[0] in _either(listener) and told[1] == [peer]

            return wait_until(seen, _ARRIVAL)
    return False


def _sees_unix(source: UnixSource) -> bool:
    with (
        suppress(Exception),
        tempfile.TemporaryDirectory(prefix="prodpatterns-") as directory,
        socket.socket(socket.AF_UNIX) as server,
        socket.socket(socket.AF_UNIX) as client,
    ):
        path = str(Path(directory, "s"))
        server.bind(path)
        server.listen(_LIMIT)
        client.connect(path)
        return source(path) in _either(UnixRow(os.fstat(server.fileno()).st_ino, 1, _LIMIT))
    return False


def _either(listener: TcpRow | UnixRow) -> list[list[Any]]:
    """Return what may be told of a listener: with its limit, or without."""
    return [[listener], [listener._replace(limit=UNKNOWN)]]
