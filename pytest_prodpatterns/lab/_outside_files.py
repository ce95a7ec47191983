"""Which file descriptors of a loop lead out of this process, and whether anything moved on them.

A TCP connection stays inside when its other end is a socket, or was accepted by a listener, of the same loop; a
unix socket when the kernel says that this process is its peer, or when its twin of a socket pair is on the loop
too; a pipe when this process holds both ends.  Everything else (a child's pipe, a pidfd, a connection to another
server) leads outside.  A listener alone is nobody's debt.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import stat
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import selectors
    from collections.abc import Iterable, Mapping

_SIOCOUTQ = 0x5411
_BYTES_RECEIVED = 128  # offsets in struct tcp_info (linux/tcp.h)
_BYTES_SENT = 200

_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104


class File(NamedTuple):
    """What a registered descriptor is, asked once a change of the registered set."""

    fd: int
    inode: int
    kind: str  # "tcp", "udp", "unix", "pipe", "child" or "file"
    here: Any = None
    there: Any = None
    listens: bool = False
    own_peer: bool = False

    def __str__(self) -> str:
        if self.kind == "child":
            return f"a child process (descriptor {self.fd})"
        if self.kind in {"tcp", "udp", "unix"}:
            return f"a {self.kind} socket to {self.there or 'an unknown peer'} (descriptor {self.fd})"
        return f"a {self.kind} (descriptor {self.fd})"


class Files:
    """The descriptors that a loop watches, sorted into inside and outside."""

    def __init__(self, registered: Mapping[Any, selectors.SelectorKey], self_pipe: int) -> None:
        self._registered = registered
        self._self_pipe = self_pipe
        self._seen: dict[int, Any] = {}
        self._inside: set[tuple[Any, ...]] = set()
        self.outside: dict[int, File] = {}
        self.local_tcp: list[int] = []
        self.listening = False

    def refresh(self) -> None:
        """Sort anew, if what the loop watches has changed."""
        seen = {fd: id(key.data) for fd, key in self._registered.items() if fd != self._self_pipe}
        if seen == self._seen:
            return
        self._seen = seen
        files = [file for fd in seen if (file := _describe(fd)) is not None]
        inside = {file.fd for file in files if self._stays_inside(file, files)}
        self.outside = {file.fd: file for file in files if file.fd not in inside}
        self.local_tcp = [
            file.fd for file in files if file.fd in inside and file.kind == "tcp" and not file.listens
        ]
        self.listening = any(file.listens for file in files)

    def _stays_inside(self, file: File, files: Iterable[File]) -> bool:
        if file.listens:
            return True
        identity = (file.inode, file.kind, file.here, file.there)
        if identity not in self._inside and _joined(file, files):
            self._inside.add(identity)
        return identity in self._inside

    def traffic(self) -> tuple[Any, ...]:
        """Return something that differs once bytes or waiters moved on a descriptor that leads outside."""
        return tuple(
            (fd, file.inode, self._counters(file) if file.kind == "tcp" else self._reader(fd))
            for fd, file in self.outside.items()
        )

    @staticmethod
    def _counters(file: File) -> tuple[int, ...]:
        with contextlib.suppress(OSError, struct.error), _borrowed(file.fd) as sock:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            return struct.unpack_from("Q", info, _BYTES_RECEIVED) + struct.unpack_from("Q", info, _BYTES_SENT)
        return ()

    def _reader(self, fd: int) -> int:
        """Return which future waits on the stream behind `fd`: the kernel counts no bytes on these."""
        key = self._registered.get(fd)
        for handle in key.data if key is not None and isinstance(key.data, tuple) else ():
            transport = getattr(getattr(handle, "_callback", None), "__self__", None)
            reader = getattr(getattr(transport, "_protocol", None), "_stream_reader", None)
            if isinstance(reader, asyncio.StreamReader):
                return id(getattr(reader, "_waiter", None))
        return 0

    def in_flight(self) -> bool:
        """Tell whether a connection inside this process has bytes that its other end did not confirm."""
        for fd in self.local_tcp:
            with contextlib.suppress(OSError):
                if any(fcntl.ioctl(fd, _SIOCOUTQ, b"\0\0\0\0")):
                    return True
        return False


class _borrowed:  # noqa: N801
    """A socket object on a descriptor that somebody else owns."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def __enter__(self) -> socket.socket:
        return self._socket

    def __exit__(self, *_: object) -> None:
        self._socket.detach()


def _describe(fd: int) -> File | None:
    try:
        status = os.fstat(fd)
        if stat.S_ISSOCK(status.st_mode):
            return _describe_socket(fd, status.st_ino)
        if stat.S_ISFIFO(status.st_mode):
            return File(fd, status.st_ino, "pipe", own_peer=_holds_both_ends(fd, status.st_ino))
        child = "pidfd" in os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
    except OSError:
        return None
    return File(fd, status.st_ino, "child" if child else "file")


def _describe_socket(fd: int, inode: int) -> File:
    with _borrowed(fd) as sock:
        here, there = sock.getsockname(), None
        with contextlib.suppress(OSError):
            there = sock.getpeername()
        listens = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        if sock.family == socket.AF_UNIX:
            peer = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            return File(fd, inode, "unix", here, there, listens, peer == os.getpid())
        kind = "tcp" if sock.type == socket.SOCK_STREAM else "udp"
        return File(fd, inode, kind, _address(here), _address(there), listens)


def _address(name: Any) -> Any:
    """Return (host, port) in one spelling, IPv4 mapped into IPv6 included."""
    return (str(name[0]).removeprefix("::ffff:"), name[1]) if isinstance(name, tuple) else name


def _joined(file: File, files: Iterable[File]) -> bool:
    """Tell whether the other end of `file` belongs to this loop."""
    if file.kind == "pipe":
        return file.own_peer
    if file.kind == "unix":
        return file.own_peer and (bool(file.here or file.there) or _has_twin(file, files))
    if file.kind == "udp" and file.there is None:
        return any(other.kind == "udp" and other.there == file.here for other in files)
    if file.there is None:
        return False
    return any(
        _answers(other, file.there) and (other.listens or other.there in {None, file.here})
        for other in files
        if other.kind == file.kind and other.fd != file.fd
    )


def _answers(file: File, address: tuple[str, int]) -> bool:
    return bool(
        file.here == address or (file.here and file.here[0] in _WILDCARDS and file.here[1] == address[1])
    )


def _has_twin(file: File, files: Iterable[File]) -> bool:
    """Find the other half of a socket pair: the kernel numbers both in one go."""
    return any(
        other.kind == "unix" and not other.here and not other.there and abs(other.inode - file.inode) == 1
        for other in files
    )


def _holds_both_ends(fd: int, inode: int) -> bool:
    target = f"pipe:[{inode}]"
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            if int(name) != fd and os.readlink(f"/proc/self/fd/{name}") == target:  # noqa: PTH115
                return True
    return False
