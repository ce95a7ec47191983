"""Where connections come in: listening sockets, and the loop that accepts from them.

Theory of operation.  The event loops' own accepting does not do here, for three reasons. Without descriptors asyncio
logs every failure (thousands a second, on 3.11), and uvloop closes the connections that it cannot take; here they
wait in the kernel's queue, nothing is tried for a moment, and one line is logged. Processes that share a socket would
each grab as much as they can get; here each takes a few at a time. And whoever closes a listening socket resets the
connections in its queue, which look established to their clients. So the door is shut in three steps: a filter in the
kernel drops the SYNs of newcomers (who try again a second later, and are refused), what is complete by then is
accepted, and then it is closed. Where there is no such filter, the second and the third step follow each other at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import socket
import struct
from collections.abc import Callable
from ssl import SSLContext
from typing import Any, Final

from aiohttp import web

from pytest_prodpatterns.patterns.server._address import identity, remove

log = logging.getLogger("pytest_prodpatterns.server")
PAUSE: Final = 0.1
"""Seconds until accepting is tried again when it failed, most likely for want of descriptors."""
SHUTTING: Final = 0.02
"""Seconds between the filter and the close: a handshake on its way needs a round trip."""
ARRIVAL: Final = 0.1
"""Seconds that handshakes of TLS have to end behind the close."""
_ATTACH_FILTER: Final = 26  # SO_ATTACH_FILTER
_DROP_SYN: Final = (  # classic BPF: what is a SYN and no ACK is dropped
    (0x30, 0, 0, 13),  # load the byte of flags
    (0x54, 0, 0, 0x12),  # mask SYN and ACK
    (0x15, 0, 1, 0x02),  # a SYN alone?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # keep it
)


class Door:
    """The listening sockets of one process.

    Args:
        factory: Makes the protocol of a new connection.
        sockets: They listen.
        tls: How TLS is spoken, or None.
        path: Where the unix socket is, or None.
        batch: Connections that are accepted before other work has its turn.
    """

    def __init__(
        self,
        factory: Callable[[], asyncio.BaseProtocol],
        sockets: list[socket.socket],
        *,
        tls: SSLContext | None,
        path: str | None,
        batch: int,
    ) -> None:
        self.sockets = sockets
        self._path, self._identity = path, identity(path)
        self._factory = factory
        self._tls = tls
        self._batch = batch
        self._loop = asyncio.get_running_loop()
        self._arriving: set[asyncio.Task[None]] = set()
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}
        self._waiting = False
        for listener in sockets:
            self._loop.add_reader(listener, self._accept, listener, batch)

    def close(self) -> None:
        """Accept no more, and give the sockets up; other processes may share them."""
        sockets, self.sockets = self.sockets, []
        for listener in sockets:
            self._loop.remove_reader(listener)
            if (paused := self._paused.pop(listener, None)) is not None:
                paused.cancel()
            listener.close()

    async def shut(self, *, last: bool) -> None:
        """Accept no more, and wait for the connections that are there.

        Args:
            last: Whether nobody else will accept from these sockets.
        """
        if last and self.sockets:
            if self._path is not None and identity(self._path) == self._identity:
                remove(self._path)
            for listener in self.sockets:
                turn_away(listener)
            await asyncio.sleep(SHUTTING)
            for listener in self.sockets:
                while self._accept(listener, 1):
                    pass
        self.close()
        if self._arriving:
            _, late = await asyncio.wait(self._arriving, timeout=ARRIVAL)
            for task in late:
                task.cancel()

    def _accept(self, listener: socket.socket, most: int) -> bool:
        """Accept what is there, and tell whether there may be more."""
        for _ in range(most):
            try:
                client, _address = listener.accept()
            except BlockingIOError:
                return False
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._pause(listener, error)
                return False
            if self._waiting:
                self._waiting = False
                log.info("connections are accepted again")
            client.setblocking(False)
            task = self._loop.create_task(self._welcome(client))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)
        return True

    async def _welcome(self, client: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, client, ssl=self._tls)
        except OSError as error:  # the client went away, or speaks no TLS
            log.debug("a connection did not come about: %s", error)
            client.close()
        except asyncio.CancelledError:
            client.close()
            raise

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        if not self._waiting:
            self._waiting = True
            log.error("connections have to wait: %s", error.strerror)
        if listener in self._paused:  # it is being shut
            return
        self._loop.remove_reader(listener)
        self._paused[listener] = self._loop.call_later(PAUSE, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        del self._paused[listener]
        self._loop.add_reader(listener, self._accept, listener, self._batch)


class Site(web.BaseSite):
    """The door as aiohttp's runners know it."""

    def __init__(self, runner: web.BaseRunner, door: Door, name: str) -> None:
        super().__init__(runner)
        self.door = door
        self._name = name

    @property
    def name(self) -> str:
        """Where it listens."""
        return self._name

    async def start(self) -> None:
        """Register; the door is open already."""
        await super().start()
        server: Any = self.door  # it has what aiohttp asks of a server
        self._server = server


def turn_away(listener: socket.socket) -> None:
    """Let the kernel drop whoever wants to connect from now on, where it can."""
    if listener.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _DROP_SYN))
    with contextlib.suppress(OSError):
        listener.setsockopt(
            socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
        )
