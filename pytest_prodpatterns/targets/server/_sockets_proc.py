"""The tables of sockets in /proc/net: slow when they are long, and there on every Linux.

A long table is read in parts, and who comes or goes meanwhile shifts the next part: rows are there twice, or
missing.  So the TCP tables are read twice, and what was seen in either counts, once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from pytest_prodpatterns.targets.server._sockets_rows import LISTEN, UNKNOWN, TcpRow, UnixRow

_TABLES: Final = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
_UNIX_TABLE: Final = Path("/proc/net/unix")
_ACCEPTS: Final = 0x10000  # __SO_ACCEPTCON: the flag of a unix socket that listens
_CONNECTING: Final = 2  # SS_CONNECTING: of an end that nobody has accepted; it has the name of its listener


def tcp(port: int, states: frozenset[int]) -> list[TcpRow]:
    """Return the sockets of this port in these states.

    Args:
        port: The local port.
        states: As the kernel numbers them.

    Raises:
        OSError: There is no such table.
    """
    there = [table for table in _TABLES if table.exists()]  # without IPv6 there is one
    return list(
        {key: row for table in (there or _TABLES) * 2 for key, row in _tcp(table, port, states)}.values()
    )


def _tcp(table: Path, port: int, states: frozenset[int]) -> Iterator[tuple[str, TcpRow]]:
    """Return the rows, each with what tells them apart."""
    wanted = f":{port:04X}"
    for line in table.read_text().splitlines()[1:]:
        _, local, remote, state, queues, _, _, _, _, inode, *_ = line.split()
        number = int(state, 16)
        if local.endswith(wanted) and number in states:
            address, other = _packed(local.partition(":")[0]), int(remote.rpartition(":")[2], 16)
            row = TcpRow(address, other, int(inode), int(queues.rpartition(":")[2], 16), UNKNOWN)
            yield f"{local} {remote} {inode if number == LISTEN else ''}", row  # several may listen there


def _packed(text: str) -> bytes:
    """Return an address in network order: the table has each 32 bits of it in the order of this machine."""
    raw = bytes.fromhex(text)
    if sys.byteorder == "big":
        return raw
    return b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))


def unix(path: str) -> list[UnixRow]:
    """Return the sockets that listen at a path.

    Args:
        path: Of the socket.

    Raises:
        OSError: There is no such table, or it leaves open which listener is meant.
    """
    rows = [row for row in _unix() if _same(row[2], path)]
    found = [inode for flags, _, _, inode in rows if flags & _ACCEPTS]
    waiting = sum(state == _CONNECTING for _, state, _, _ in rows)
    if waiting and len(found) > 1:
        raise OSError(f"several sockets listen at {path}, and the table does not tell who waits at which")
    return [UnixRow(inode, waiting, UNKNOWN) for inode in found]


def _unix() -> Iterator[tuple[int, int, str, int]]:
    """Return flags, state, path and inode of all unix sockets that have a path."""
    for line in _UNIX_TABLE.read_bytes().splitlines()[1:]:
        columns = line.split(maxsplit=7)
        if len(columns) == 8:
            _, _, _, flags, _, state, inode, path = columns
            yield int(flags, 16), int(state, 16), os.fsdecode(path), int(inode)


def _same(bound: str, path: str) -> bool:
    """Tell whether a server that has bound a path, in its own words, has bound this one."""
    if bound == path:
        return True
    if not Path(bound).is_absolute():  # it is relative to a directory that we do not know
        if Path(bound).name == Path(path).name and not bound.startswith("@"):
            raise OSError(f"a socket is bound to {bound!r}, which may be {path}")
        return False
    with suppress(OSError):
        return Path(bound).samefile(path)
    return False
