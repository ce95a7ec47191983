"""Servers of raw sockets that do exactly one thing to each connection, then end it in the way that was asked for."""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator

DEADLINE = 10.0


class Gone(Exception):
    """The client ended the connection."""


def readable(sock, seconds=0.01):
    """Wait until there is something to read; `select` knows no descriptor beyond 1023."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


class Peer:
    """One connection, seen from the server."""

    def __init__(self, accepted: socket.socket, over: threading.Event) -> None:
        self.socket = accepted
        self.over = over
        self.socket.settimeout(DEADLINE)

    def head(self) -> bytes:
        """Read a request up to the end of its head, and no byte more."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.exactly(1)
        return head

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            while not readable(self.socket):
                if self.over.is_set():
                    raise Gone
            more = self.socket.recv(size - len(data))
            if not more:
                raise Gone
            data += more
        return data

    def say(self, *parts: bytes) -> None:
        for part in parts:
            self.socket.sendall(part)

    def reset(self) -> None:
        """End it by RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def await_end(self) -> bool:
        """Wait until the client ended it, or the test is over; return whether it was the client."""
        while not self.over.is_set():
            if readable(self.socket):
                try:
                    if not self.socket.recv(65536):
                        return True
                except ConnectionError:
                    return True
        return False


Script = Callable[[Peer], None]


class RawServer:
    """Accepts, and plays a script on each connection in a thread of its own; FIN is its end."""

    def __init__(self, script: Script, *, unix: bool = False, family: int = socket.AF_INET) -> None:
        self.over = threading.Event()
        self._script = script
        self._directory = tempfile.TemporaryDirectory() if unix else None
        self._listener = socket.socket(socket.AF_UNIX if unix else family)
        if self._directory is not None:
            self.address: int | str = f"{self._directory.name}/socket"
            self._listener.bind(self.address)
        else:
            self._listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
            self.address = self._listener.getsockname()[1]
        self._listener.listen(2048)
        self._threads: list[threading.Thread] = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.failures: list[BaseException] = []
        self.seen = itertools.count()

    def _accept(self) -> None:
        while not self.over.is_set():
            if readable(self._listener):
                accepted, _ = self._listener.accept()
                thread = threading.Thread(target=self._play, args=[accepted])
                self._threads.append(thread)
                thread.start()

    def _play(self, accepted: socket.socket) -> None:
        with accepted:
            try:
                self._script(Peer(accepted, self.over))
            except (Gone, ConnectionError):
                pass
            except BaseException as error:
                self.failures.append(error)

    def stop_listening(self) -> None:
        """Close the listener; connections that are not accepted are reset."""
        self.over.set()
        self._threads[0].join(DEADLINE)
        self._listener.close()

    def close(self) -> None:
        self.stop_listening()
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
        if self._directory is not None:
            self._directory.cleanup()
        assert not self.failures, self.failures


@contextlib.contextmanager
def serving(script: Script, **options) -> Iterator[RawServer]:
    server = RawServer(script, **options)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def listening(*, unix: bool = False, full: bool = False) -> Iterator[int | str]:
    """A listener that never accepts, with room in its backlog or without; yields its address."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX if unix else socket.AF_INET))
        if unix:
            listener.bind(f"{stack.enter_context(tempfile.TemporaryDirectory())}/socket")
        else:
            listener.bind(("127.0.0.1", 0))
        listener.listen(0 if full else 100)
        while full:
            filler = stack.enter_context(socket.socket(listener.family))
            filler.setblocking(False)
            waits = filler.connect_ex(listener.getsockname())
            full = waits == 0 or (not unix and bool(select.select([], [filler], [], 0.3)[1]))
        yield listener.getsockname() if unix else listener.getsockname()[1]
