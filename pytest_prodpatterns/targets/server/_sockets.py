"""The kernel's view of a server's sockets: who listens, who waits to be accepted, and what was read.

Theory of operation.  A successful `connect` says nothing: the kernel accepts for a server that does not.  What it
knows tells more: of a listener, how many connections nobody has accepted yet; of a connection, whether it was
accepted (then its server-side end has an inode) and how many bytes wait there to be read.

There are two sources: the kernel's socket diagnosis over netlink (fast, filtered by the kernel, works without
privileges), and the tables in /proc/net.  Neither is believed because it is there: each must first see, once in
the life of this process, a small listener of our own with everything that is known of it.  Where none does, the
answer is None, "not observed", and never a guess.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, TypeAlias, TypeVar

from pytest_prodpatterns.targets.server import _sockets_trial
from pytest_prodpatterns.targets.server._sockets_rows import (
    CLOSE_WAIT,
    ESTABLISHED,
    LISTEN,
    UNKNOWN,
    TcpRow,
    UnixRow,
)

Address: TypeAlias = int | str
"""A TCP port on loopback, or the path of a unix socket."""

_Row = TypeVar("_Row", TcpRow, UnixRow)


class Listener(NamedTuple):
    """A socket that listens.

    Attributes:
        inode: Which one it is.
        backlog: How many connections to it were not accepted yet.
        limit: How many may wait there; UNKNOWN where this machine does not tell.
    """

    inode: int
    backlog: int
    limit: int


class Peer(NamedTuple):
    """The server's end of a connection.

    Attributes:
        port: The client's.
        inode: Which socket it is; 0 while nobody has accepted it.
        unread: How many bytes wait to be read.
    """

    port: int
    inode: int
    unread: int


def listeners(address: Address) -> list[Listener] | None:
    """Return the sockets that listen there and can be reached over loopback; None: it cannot be observed here.

    A unix socket listens until it is closed, even when its file is gone.

    Args:
        address: A port, or the path of a unix socket.
    """
    if isinstance(address, str):
        found = _first(_sockets_trial.unix_sources(), address)
        return None if found is None else [Listener(*row) for row in found]
    rows = _first(_sockets_trial.tcp_sources(), address, frozenset({LISTEN}))
    if rows is None:
        return None
    return [Listener(row.inode, row.received, row.limit) for row in rows if row.loopback or row.anywhere]


def peers(address: Address) -> list[Peer] | None:
    """Return the server's ends of the connections over loopback; None: they cannot be observed here.

    Those count that the client may have closed, and the server has not.

    Args:
        address: A port; unix sockets do not tell.
    """
    if isinstance(address, str):
        return None
    rows = _first(_sockets_trial.tcp_sources(), address, frozenset({ESTABLISHED, CLOSE_WAIT}))
    return (
        None if rows is None else [Peer(row.remote, row.inode, row.received) for row in rows if row.loopback]
    )


def owner_pids(inode: int) -> set[int]:
    """Return the processes that have this socket open, of those that we may look into.

    Args:
        inode: Of a listener or a peer.
    """
    wanted = f"socket:[{inode}]"
    return {pid for pid in _pids() if wanted in _links(pid)}


def _first(sources: tuple[Callable[..., list[_Row]], ...], *question: object) -> list[_Row] | None:
    """Return the answer of the first source that has one."""
    for source in sources:
        with suppress(OSError):
            return source(*question)
    return None


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]  # noqa: PTH208 - of many, quickly


def _links(pid: int) -> set[str]:
    found = set()
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:  # it ended, or is somebody else's
        for entry in entries:
            with suppress(FileNotFoundError):  # closed meanwhile
                found.add(os.readlink(entry.path))  # noqa: PTH115 - the same
    return found


__all__ = ["UNKNOWN", "Address", "Listener", "Peer", "listeners", "owner_pids", "peers"]
