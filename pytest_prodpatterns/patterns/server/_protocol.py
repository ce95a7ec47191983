"""One connection: aiohttp's, with a time for the head of a request, and errors that echo nothing.

aiohttp reads the head of a request for as long as the client likes to trickle it. Here the clock starts with the
first byte that completes no request, and the connection is closed when it has run out.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from pytest_prodpatterns.patterns.server._guard import AnswerAbortedError, log
from pytest_prodpatterns.patterns.server._problem import problem
from pytest_prodpatterns.patterns.server._request import identify


class Connection(RequestHandler):
    """One connection of a server.

    Args:
        manager: aiohttp's low-level server.
        header_timeout: Seconds from the first byte of a request to the last of its head.
        options: Those of aiohttp.
    """

    __slots__ = ("_head_timer", "_header_timeout")

    def __init__(self, manager: web.Server, *, header_timeout: float, **options: Any) -> None:
        super().__init__(manager, **options)
        self._header_timeout = header_timeout
        self._head_timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether it waits for a request, of which a part may have come."""
        return self._waiter is not None and not self._waiter.done()

    def data_received(self, data: bytes) -> None:
        """Take bytes, and look whether they completed a head."""
        RequestHandler.data_received(self, data)  # cheaper than super(), and each packet comes by
        if self._head_timer is None:
            if not self._messages and self.idle:
                self._head_timer = self._loop.call_later(self._header_timeout, self._head_is_late)
        elif not self.idle:
            self._head_timer.cancel()
            self._head_timer = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the timer."""
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def expect_no_more(self) -> None:
        """Close behind the response, without waiting for the rest of a body."""
        self._lingering_time = 0.0

    def abort(self) -> None:
        """Close at once, whatever is still to be sent, and cancel the handler."""
        transport, task = self.transport, self._task_handler
        self.force_close()
        if isinstance(transport, asyncio.Transport):
            transport.abort()
        if task is not None:
            task.cancel()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it holds what the client sent
    ) -> web.StreamResponse:
        """Answer what never became a request, or failed outside of the guard."""
        if isinstance(exc, AnswerAbortedError):
            raise exc
        if status >= 500:
            log.error("cannot answer", exc_info=exc)
        else:
            log.info("bad request: %s", type(exc).__name__)
        if request.writer.output_size > 0:
            raise AnswerAbortedError("the response had begun")
        identity = identify(None)
        request.id = identity  # type: ignore[attr-defined]
        response = problem(status, request_id=identity)
        response.force_close()
        return response

    def _head_is_late(self) -> None:
        if self.idle:
            self.force_close()


class Listener(web.Server):
    """aiohttp's low-level server, making our connections."""

    def __call__(self) -> Connection:
        """Return a new connection."""
        return Connection(self, loop=self._loop, **self._kwargs)
