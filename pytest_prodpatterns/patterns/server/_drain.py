"""The drain: requests in flight, connections and background work, all under one deadline.

A connection is closed when it has nothing to do, and not before: bytes that the client sent while the listener
closed are still read, an answer on its way is sent to its end, a body that still comes is awaited, unless nothing
of it came for a while. aiohttp's own shutdown does not do: it waits twice its timeout, and from its first step
on it throws away what arrives for the bodies of requests in flight.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from aiohttp import WSCloseCode, web

from pytest_prodpatterns.patterns.server._active import Active
from pytest_prodpatterns.patterns.server._protocol import Connection

log = logging.getLogger("pytest_prodpatterns.server")
LINGER: Final = 0.1
"""Seconds that a connection without a request is left open in a drain."""
STALLED: Final = 1.0
"""Seconds without a byte after which the rest of a body is not awaited any more."""
TURN: Final = 0.02
GRACE: Final = 0.3
"""Seconds that cancelled handlers and hooks have to end, and their answers to be sent."""
Hook = Callable[[float], Awaitable[object] | object]


class Drain:
    """One drain.

    Args:
        listener: aiohttp's low-level server.
        active: The books.
        forced: Set when there is no time any more.
        deadline: When it has to be over, on the loop's clock.
        linger: Seconds that a connection without a request is left open, for what is under way.
    """

    def __init__(
        self, listener: web.Server, active: Active, forced: asyncio.Event, *, deadline: float, linger: float
    ) -> None:
        self._listener = listener
        self._active = active
        self._forced = forced
        self._deadline = deadline
        self._linger = linger
        self._loop = asyncio.get_running_loop()
        self._bodies: dict[asyncio.Task[Any], tuple[int, float]] = {}

    @property
    def left(self) -> float:
        """Seconds until the deadline; 0 when it is over, or was forced."""
        return 0.0 if self._forced.is_set() else max(0.0, self._deadline - self._loop.time())

    async def requests(self) -> int:
        """Wait for the requests, and return how many had to be cut off."""
        goodbyes = [asyncio.create_task(_say_goodbye(socket)) for socket in self._websockets()]
        since = self._loop.time()
        while self._listener.connections and self.left:
            if self._loop.time() - since >= self._linger:
                self._close_idle()
            self._give_up_stalled()
            await asyncio.sleep(min(TURN, self.left))
        cut_off = self._active.cancel_all("deadline")
        if self._listener.connections:
            await self._abort()
        for goodbye in goodbyes:
            goodbye.cancel()
        return cut_off

    async def work(self, hooks: Iterable[tuple[str, Hook]]) -> list[str]:
        """Drain background work, the latest first, and return the names of what failed or came too late."""
        return [name for name, hook in hooks if not await self._one(name, hook)]

    async def _one(self, name: str, hook: Hook) -> bool:
        task = asyncio.create_task(call(hook, self.left))
        over = asyncio.create_task(self._forced.wait())
        await asyncio.wait({task, over}, timeout=self.left, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        return await finished(task, f"drain hook {name}")

    def _websockets(self) -> list[web.WebSocketResponse]:
        return [each.websocket for each in self._active.requests.values() if each.websocket is not None]

    def _close_idle(self) -> None:
        for connection in self._listener.connections:
            if isinstance(connection, Connection) and connection.idle:
                connection.force_close()

    def _give_up_stalled(self) -> None:
        now = self._loop.time()
        for task, request in [*self._active.requests.items()]:
            content = request.content
            if content.is_eof() or request.websocket is not None:
                continue
            received, since = self._bodies.get(task, (-1, now))
            if received != content.total_bytes:
                self._bodies[task] = (content.total_bytes, now)
            elif now - since >= STALLED:
                self._active.cancel(task, request, "stalled")

    async def _abort(self) -> None:
        """Give cancelled handlers a moment to answer, then close whatever is left."""
        end = self._loop.time() + GRACE
        while self._listener.connections and self._loop.time() < end:
            self._close_idle()
            await asyncio.sleep(TURN)
        for connection in self._listener.connections:
            if isinstance(connection, Connection):
                connection.abort()
        await asyncio.sleep(0)


async def call(hook: Callable[..., Any], *arguments: Any) -> None:
    """Call a hook, and wait for it when there is something to wait for."""
    result = hook(*arguments)
    if inspect.isawaitable(result):
        await result


async def finished(task: asyncio.Task[Any], what: str) -> bool:
    """Tell whether the task ended well; cancel it when it has not ended, say so when it failed."""
    if not task.done():
        log.error("%s did not end in time", what)
        task.cancel()
        await asyncio.wait({task}, timeout=GRACE)
        return False
    if task.cancelled():
        log.error("%s was cancelled", what)
        return False
    if (error := task.exception()) is not None:
        log.error("%s failed", what, exc_info=error)
        return False
    return True


async def _say_goodbye(socket: web.WebSocketResponse) -> None:
    await socket.close(code=WSCloseCode.GOING_AWAY, message=b"The server stops.")
