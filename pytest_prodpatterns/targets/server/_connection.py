"""A connection of a client, on the readiness of its socket: it knows FIN from RST exactly.

Theory of operation.  Asyncio's transports drop what they have not read when a write fails; here a failed write only
stops the writing, and the reading goes on: a server that answers 413 and closes while we still send is heard.  The
kernel gives what arrived before a reset, then the error, once, to whoever calls first: when that was a write,
the end of the reading is told as the reset that it was.  EPIPE is none: there, FIN came first.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import termios
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, Protocol, TypeAlias

from pytest_prodpatterns.targets.server._address import LOOPBACK, Address

_PORTION: Final = 1 << 16
_NOBODY: Final = frozenset(
    {errno.ECONNREFUSED, errno.ENOENT, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETUNREACH}
)
_FIRST_RETRY, _LAST_RETRY = 0.005, 0.1  # unix sockets alone: nobody tells when the backlog has room

_Place: TypeAlias = tuple[int, tuple[str, int] | str]


class Way(NamedTuple):
    """How connections are made: on which loop, to which address, within how many seconds."""

    loop: asyncio.AbstractEventLoop
    address: Address
    within: float


class Ear(Protocol):
    """Who hears what happens to a connection."""

    def connected(self) -> None:
        """It is there."""

    def failed(self, outcome: str, detail: str) -> None:
        """There will be none; a word of OUTCOMES, and why."""

    def received(self, data: bytes) -> None:
        """Bytes came."""

    def flushed(self) -> None:
        """All that was to be sent is with the kernel."""

    def lost(self, *, reset: bool) -> None:
        """The server closed it (FIN), or reset it (RST); no more is heard."""


class Connection:
    """One connection; all of it happens in the thread of the loop.

    Args:
        way: How it is made.
        ear: Who hears of it.

    Attributes:
        port: The local port, 0 where there is none.
    """

    def __init__(self, way: Way, ear: Ear) -> None:
        self.port = 0
        self._loop = way.loop
        self._ear = ear
        self._within = way.within
        self._places = iter(_places(way.address))
        self._socket: socket.socket | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._unsent: deque[memoryview] = deque()
        self._writing = True
        self._watched = False  # whether the loop tells when it can be written to
        self._reset = False

    def open(self) -> None:
        """Begin to connect."""
        self._timers.append(self._loop.call_later(self._within, self._too_late))
        self._try_next(errno.ECONNREFUSED)

    def send(self, parts: Sequence[bytes]) -> None:
        """Send these behind what is not sent yet."""
        self._unsent.extend(memoryview(part) for part in parts if part)
        self._write()

    def look(self) -> None:
        """Hear at once what has come, the end among it."""
        self._readable()

    def unread(self) -> int | None:
        """Return how many bytes the other end has not read; None where this end cannot know."""
        if self._socket is None or self._socket.family != socket.AF_UNIX:
            return None
        with suppress(OSError, ValueError):
            held = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(4))
            return int.from_bytes(held, "little")
        return None

    def close(self) -> None:
        """Hang up; nothing is heard any more."""
        for timer in self._timers:
            timer.cancel()
        self._unsent.clear()
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._watch_writing(None)
            self._close_socket()

    # -- connecting ------------------------------------------------------------------------------------------

    def _try_next(self, error: int) -> None:
        self._close_socket()
        place = next(self._places, None)
        if place is None:
            self._fail("refused", "" if error == errno.ECONNREFUSED else os.strerror(error))
            return
        try:
            self._socket = socket.socket(place[0], socket.SOCK_STREAM)
        except OSError as failed:
            self._give_up(failed.errno or 0)
            return
        self._socket.setblocking(False)
        self._connect(place[1], _FIRST_RETRY)

    def _connect(self, where: tuple[str, int] | str, pause: float) -> None:
        assert self._socket is not None  # made by `_try_next`, and retries end with it
        error = self._socket.connect_ex(where)
        if error == errno.EAGAIN:
            later = self._loop.call_later(pause, self._connect, where, min(2 * pause, _LAST_RETRY))
            self._timers[1:] = [later]
        elif error == errno.EINPROGRESS:
            self._watch_writing(self._decided)
        else:
            self._connected_or_not(error)

    def _decided(self) -> None:
        assert self._socket is not None  # its readiness called
        self._watch_writing(None)
        self._connected_or_not(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _connected_or_not(self, error: int) -> None:
        assert self._socket is not None  # one of the callers has it
        if not error and is_its_own_peer(self._socket):
            error = errno.ECONNREFUSED
        if not error:
            self._connected(self._socket)
        elif error in _NOBODY:
            self._try_next(error)
        else:
            self._give_up(error)

    def _connected(self, made: socket.socket) -> None:
        self._timers.pop(0).cancel()
        if made.family != socket.AF_UNIX:
            self.port = made.getsockname()[1]
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop.add_reader(made.fileno(), self._readable)
        self._ear.connected()

    def _give_up(self, error: int) -> None:
        outcome = "reset" if error == errno.ECONNRESET else "unreachable"
        self._fail(outcome, os.strerror(error))

    def _too_late(self) -> None:
        self._fail("unreachable", f"not connected within {self._within:g} s")

    def _fail(self, outcome: str, detail: str) -> None:
        self.close()
        self._ear.failed(outcome, detail)

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # -- connected -------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(_PORTION)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, self._reset = b"", True
        if data:
            self._ear.received(data)
            return
        self.close()
        self._ear.lost(reset=self._reset)

    def _write(self) -> None:
        if self._socket is None:
            return
        try:
            while self._unsent and self._writing:
                part = self._unsent.popleft()
                sent = self._socket.send(part)
                if sent < len(part):
                    self._unsent.appendleft(part[sent:])
        except (BlockingIOError, InterruptedError):
            self._unsent.appendleft(part)
            self._watch_writing(self._write)
            return
        except OSError as failed:
            self._reset = self._reset or failed.errno == errno.ECONNRESET
            self._writing = False
            self._unsent.clear()
        self._watch_writing(None)
        if self._writing:
            self._ear.flushed()

    def _watch_writing(self, call: Callable[[], None] | None) -> None:
        assert self._socket is not None  # whoever writes has it
        if call is not None:
            self._loop.add_writer(self._socket.fileno(), call)
        elif self._watched:
            self._loop.remove_writer(self._socket.fileno())
        self._watched = call is not None


def is_its_own_peer(made: socket.socket) -> bool:
    """Tell whether a connection is one with itself.

    The kernel may give a client the very port that it connects to; where nobody listens, it then meets itself.
    """
    with suppress(OSError):
        return made.family != socket.AF_UNIX and made.getsockname() == made.getpeername()
    return False


def _places(address: Address) -> list[_Place]:
    if isinstance(address, str):
        return [(socket.AF_UNIX, address)]
    return [(socket.AF_INET, (LOOPBACK, address)), (socket.AF_INET6, ("::1", address))]


__all__ = ["Connection", "Ear", "Way", "is_its_own_peer"]
