"""Addresses to listen at: ports of every family that a host name means, and paths of unix sockets."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Any

from pytest_prodpatterns.patterns.server._settings import Settings


def bind(told: Settings, host: str | None, port: int) -> list[socket.socket]:
    """Return sockets that are bound to the address, and do not listen yet.

    Raises:
        OSError: When the address cannot be had.
    """
    if told.unix_socket is not None:
        return [_bind_path(told.unix_socket)]
    sockets: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                listener = socket.socket(family, kind, protocol)
            except OSError:  # a family that this machine does not have
                continue
            undo.enter_context(listener)
            _bind(listener, (address[0], port, *address[2:]), reuse_port=told.reuse_port)
            port = listener.getsockname()[1]  # one for all of them
            sockets.append(listener)
        if not sockets:
            raise OSError(errno.EADDRNOTAVAIL, f"{host} has no address that can be listened on")
        undo.pop_all()
    return sockets


def _bind(listener: socket.socket, address: tuple[Any, ...], *, reuse_port: bool) -> None:
    listener.setblocking(False)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        listener.bind(address)
    except OSError as error:
        raise OSError(error.errno, f"{address[0]}:{address[1]}: {error.strerror}") from None


def _bind_path(path: str) -> socket.socket:
    """Bind to a path; what a process that is gone left there is removed."""
    remove_remains(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.setblocking(False)
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise OSError(error.errno or errno.ENAMETOOLONG, f"{path}: {error.strerror or error}") from None
    return listener


def remove_remains(path: str) -> None:
    """Remove a unix socket on which nobody listens."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        if Path(path).is_socket() and probe.connect_ex(path) == errno.ECONNREFUSED:
            remove(path)


def remove(path: str) -> None:
    """Remove a unix socket."""
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108 - quick, and the same


def identity(path: str | None) -> tuple[int, int] | None:
    """Return which file it is: somebody else may have put theirs in its place."""
    if path is None:
        return None
    with contextlib.suppress(OSError):
        there = Path(path).stat()
        return there.st_dev, there.st_ino
    return None
