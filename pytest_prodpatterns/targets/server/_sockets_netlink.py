"""The kernel's diagnosis of sockets over netlink, which looks for what is asked and tells nothing else.

The structures are those of linux/inet_diag.h and linux/unix_diag.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pytest_prodpatterns.targets.server._sockets_rows import LISTEN, UNKNOWN, TcpRow, UnixRow

_SOCK_DIAG: Final = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY: Final = 20  # SOCK_DIAG_BY_FAMILY
_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR: Final = 2
_DONE: Final = 3
_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, number, port
_PATIENCE: Final = 5.0  # the kernel answers at once, or not at all

_TCP_REQUEST: Final = struct.Struct("=BBBxI")  # family, protocol, extensions, states; an id follows
_TCP_ID: Final = struct.Struct("!HH16s16sI8s")  # ports, addresses, interface, cookie
_TCP_ANSWER: Final = struct.Struct("=BBBB48sIIIII")  # …, id, expires, received, sent, uid, inode
_ANY: Final = b"\xff" * 8  # a cookie that fits all

_UNIX_REQUEST: Final = struct.Struct("=BBxxIII8s")  # family, protocol, states, inode, what to show, cookie
_UNIX_ANSWER: Final = struct.Struct("=BBBxI8s")  # family, type, state, inode, cookie; attributes follow
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
_PAIR: Final = struct.Struct("=II")
_SHOW: Final = 0x01 | 0x02 | 0x10  # the name, the file, and the queue
_NAME: Final = 0
_FILE: Final = 1
_QUEUE: Final = 4


def tcp(port: int, states: frozenset[int]) -> list[TcpRow]:
    """Return the sockets of this port in these states.

    Args:
        port: The local port.
        states: As the kernel numbers them.

    Raises:
        OSError: This kernel cannot, or may not, tell.
    """
    families = (socket.AF_INET, socket.AF_INET6)
    told = (each for family in families for each in _tcp(family, port, states))
    return list(dict(told).values())  # who comes meanwhile may shift others into the next message, once more


def _tcp(family: int, port: int, states: frozenset[int]) -> Iterator[tuple[bytes, TcpRow]]:
    """Return the sockets, each with its identity."""
    body = _TCP_REQUEST.pack(family, socket.IPPROTO_TCP, 0, sum(1 << state for state in states))
    for answer in _ask(body + _TCP_ID.pack(port, 0, b"", b"", 0, _ANY)):
        found, state, _, _, identity, _, received, limit, _, inode = _TCP_ANSWER.unpack_from(answer)
        local, remote, address, *_ = _TCP_ID.unpack(identity)
        if found == family and local == port and state in states:
            size = 4 if family == socket.AF_INET else 16
            waiting = limit if state == LISTEN else UNKNOWN
            yield identity, TcpRow(address[:size], remote, inode, received, waiting)


def unix(path: str) -> list[UnixRow]:
    """Return the sockets that listen at a path: by that name, or at the file that is there.

    Args:
        path: Of the socket.

    Raises:
        OSError: This kernel cannot, or may not, tell.
    """
    wanted = {_NAME: os.fsencode(path), _FILE: _file(path)}
    body = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 1 << LISTEN, 0, _SHOW, _ANY)
    found = []
    for answer in _ask(body):
        _, _, state, inode, _ = _UNIX_ANSWER.unpack_from(answer)
        told = dict(_attributes(answer[_UNIX_ANSWER.size :]))
        name = told.get(_NAME, b"").rstrip(b"\0")
        if state == LISTEN and (name == wanted[_NAME] or told.get(_FILE) == wanted[_FILE]):
            found.append(UnixRow(inode, *_PAIR.unpack_from(told[_QUEUE])))
    return found


def _file(path: str) -> bytes:
    """Return how the kernel calls this file: its inode and device; nothing where there is none."""
    try:
        there = Path(path).stat()
    except OSError:
        return b""
    device = os.major(there.st_dev) << 20 | os.minor(there.st_dev)
    return _PAIR.pack(there.st_ino & 0xFFFFFFFF, device & 0xFFFFFFFF)


def _ask(body: bytes) -> Iterator[bytes]:
    """Send a request for a list, and return its items."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as line:
        line.settimeout(_PATIENCE)
        line.sendto(_HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _DUMP, 1, 0) + body, (0, 0))
        while True:
            for kind, payload in _messages(line.recv(1 << 16)):
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", payload)[0]
                    raise OSError(code, os.strerror(code))
                yield payload


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
