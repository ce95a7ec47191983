"""aiohttp's runner with our listener and our guard; ended by our life cycle, not by aiohttp's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from pytest_prodpatterns.patterns.server._access_log import JsonAccessLogger, access
from pytest_prodpatterns.patterns.server._active import Active
from pytest_prodpatterns.patterns.server._guard import Guard, Handler
from pytest_prodpatterns.patterns.server._metrics import Metrics
from pytest_prodpatterns.patterns.server._protocol import Listener
from pytest_prodpatterns.patterns.server._request import request_factory
from pytest_prodpatterns.patterns.server._settings import Settings


class Runner(web.AppRunner):
    """What `start_server` returns; its `cleanup` drains, as the guide's `main` expects.

    Args:
        app: The application.
        settings: The settings of the server.
        active: The books.
        metrics: What counts, or None.
        source: Who emits events.
        while_starting: Answers until the application does.
        stop: Ends the server.
    """

    def __init__(
        self,
        app: web.Application,
        settings: Settings,
        active: Active,
        metrics: Metrics | None,
        *,
        source: str,
        while_starting: Handler,
        stop: Callable[[], Awaitable[object]],
    ) -> None:
        super().__init__(app)
        self._settings = settings
        self._active = active
        self._metrics = metrics
        self._source = source
        self._while_starting = while_starting
        self._stop = stop
        self._guard: Guard | None = None

    async def cleanup(self) -> None:
        """Drain and clean up."""
        await self._stop()

    async def begin(self) -> None:
        """Run the start-up hooks, which may take long, and let the application answer from then on."""
        handler: Any = (await super()._make_server()).request_handler
        assert self._guard is not None
        self._guard.inner = handler

    async def _make_server(self) -> web.Server:
        loop = asyncio.get_running_loop()
        self.app._set_loop(loop)  # noqa: SLF001 - requests that come during start-up need it
        told = self._settings
        self._guard = Guard(
            self._while_starting,
            self._active,
            self._metrics,
            source=self._source,
            limit=told.max_concurrent,
            retry_after=told.retry_after,
        )
        return Listener(
            self._guard.handle,  # type: ignore[arg-type]
            request_factory=request_factory(self.app, self._active),
            handler_cancellation=told.cancel_on_disconnect,
            loop=loop,
            access_log=access if told.access_log else None,
            access_log_class=JsonAccessLogger,
            keepalive_timeout=told.keepalive_timeout,
            header_timeout=told.header_timeout,
            max_line_size=told.max_header,
            max_field_size=told.max_header,
            max_headers=told.max_headers,
            lingering_time=2.0,
        )
