"""`ProductionServer`: the server itself, as users see it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from pytest_prodpatterns.patterns.server import _address, _post, _signals
from pytest_prodpatterns.patterns.server._drain import GRACE, Hook
from pytest_prodpatterns.patterns.server._health import Health
from pytest_prodpatterns.patterns.server._life import Life
from pytest_prodpatterns.patterns.server._post import Post
from pytest_prodpatterns.patterns.server._run import run, set_up_logging
from pytest_prodpatterns.patterns.server._runner import Runner
from pytest_prodpatterns.patterns.server._settings import checked
from pytest_prodpatterns.patterns.server._state import ServerState
from pytest_prodpatterns.patterns.server._stop import Stop
from pytest_prodpatterns.patterns.server._workers import Supervisor

log = logging.getLogger("pytest_prodpatterns.server")
__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too


class ProductionServer:
    """An aiohttp server that starts, serves and above all stops as production needs it.

    Subclass it, and override `setup_routes` and `setup_middleware`; or give it an application of yours.

    Args:
        host: Where to listen; None for every address.
        port: The port; 0 for a free one.
        app: An application to serve instead of an own one; it gets the health routes that it lacks.
        name: Who it is in events; by default its address.
        unix_socket: Path of a unix socket to listen on instead.
        tls: An SSLContext, or (certificate file, key file).
        lame_duck: Seconds between SIGTERM, which turns `/ready` into 503, and the end of accepting. At least as
            long as the balancer needs to notice. Ctrl-C skips it.
        drain_timeout: Seconds that requests in flight and background work have, all together.
        cleanup_timeout: Seconds that all cleanup hooks have.
        handler_timeout: Seconds until a handler must have begun to answer, else 503; None: no limit.
        header_timeout: Seconds from the first byte of a request to the last of its head.
        keepalive_timeout: Seconds that a connection may stay without a request.
        max_body: Bytes of a body, else 413; an application of yours has its own limit.
        max_header: Bytes of the request line and of each header field, else 400.
        max_headers: Number of header fields.
        max_concurrent: Requests at once, else 503 with Retry-After; the health routes are always answered.
        retry_after: Seconds in that header.
        max_loop_lag: Seconds that the event loop may be late before `/health` says 503; None: whatever it is.
        backlog: Connections that wait for being accepted.
        workers: Processes that share the address; more than one works with `main` only.
        reuse_port: Whether other processes may listen on the same port.
        access_log: Whether to log requests, as JSON, on the logger `pytest_prodpatterns.server.access`.
        metrics: Whether to count requests, and serve `/metrics`.
        cancel_on_disconnect: Whether a handler is cancelled when its client goes away.
        uvloop: Whether `main` uses uvloop; None: where it is installed.

    Raises:
        TypeError: When a parameter is of the wrong type.
        ValueError: When one is out of range.
    """

    def __init__(
        self,
        host: str | None = "0.0.0.0",  # noqa: S104 - the guide's default, and what a container needs
        port: int = 8080,
        *,
        app: web.Application | None = None,
        name: str | None = None,
        unix_socket: str | None = None,
        tls: Any = None,
        lame_duck: float = 0.0,
        drain_timeout: float = 20.0,
        cleanup_timeout: float = 5.0,
        handler_timeout: float | None = 30.0,
        header_timeout: float = 10.0,
        keepalive_timeout: float = 75.0,
        max_body: int = 1024**2,
        max_header: int = 8190,
        max_headers: int = 128,
        max_concurrent: int = 1024,
        retry_after: int = 1,
        max_loop_lag: float | None = None,
        backlog: int = 2048,
        workers: int = 1,
        reuse_port: bool = False,
        access_log: bool = True,
        metrics: bool = True,
        cancel_on_disconnect: bool = False,
        uvloop: bool | None = None,
    ) -> None:
        self._settings = checked(
            host=host,
            port=port,
            name=name,
            unix_socket=unix_socket,
            tls=tls,
            lame_duck=lame_duck,
            drain_timeout=drain_timeout,
            cleanup_timeout=cleanup_timeout,
            handler_timeout=handler_timeout,
            header_timeout=header_timeout,
            keepalive_timeout=keepalive_timeout,
            max_body=max_body,
            max_header=max_header,
            max_headers=max_headers,
            max_concurrent=max_concurrent,
            retry_after=retry_after,
            max_loop_lag=max_loop_lag,
            backlog=backlog,
            workers=workers,
            reuse_port=reuse_port,
            access_log=access_log,
            metrics=metrics,
            cancel_on_disconnect=cancel_on_disconnect,
            uvloop=uvloop,
        )
        self.host = host
        self.port = port
        self._post: Post | None = None
        if app is not None and not isinstance(app, web.Application):
            raise TypeError(f"app must be an aiohttp.web.Application or None, not {app!r}")
        given, self.app = app, web.Application(client_max_size=max_body) if app is None else app
        self._life = Life(self.app, self._settings)
        self._stop = Stop(self._settings, self._life)
        self._health = Health(self._life)
        if given is None:
            self.setup_routes()
            self.setup_middleware()
        self._health.add_routes(self.app)

    # -- what subclasses override ---------------------------------------------------------------------------------

    def setup_routes(self) -> None:
        """Add the routes; those of an orchestrator are added behind yours where they are missing."""
        self.app.router.add_get("/health", self.health_check)
        self.app.router.add_get("/api/data", self.get_data)
        self.app.router.add_post("/api/process", self.process_data)

    def setup_middleware(self) -> None:
        """Add middlewares; errors, limits and request ids need none: they are handled outside of them all."""

    async def health_check(self, request: web.Request) -> web.StreamResponse:
        """Answer `/health`: 200 as long as the process is alive."""
        return await self._health.health(request)

    async def get_data(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        """Answer `/api/data`, a sample."""
        await asyncio.sleep(0.1)
        return web.json_response({"data": "sample data"})

    async def process_data(self, request: web.Request) -> web.StreamResponse:
        """Answer `/api/process`, a sample: JSON in, JSON out."""
        return web.json_response({"result": await self.process_async(await request.json())})

    async def process_async(self, data: Any) -> Any:
        """Process what `/api/process` got."""
        await asyncio.sleep(0.5)
        return f"Processed: {data}"

    # -- what it says about itself --------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Who it is in events."""
        return self._settings.name

    @property
    def state(self) -> ServerState:
        """Where it stands in its life."""
        return self._life.state

    @property
    def url(self) -> str:
        """Where it can be reached; empty before it listens."""
        return self._life.url

    @property
    def draining(self) -> asyncio.Event:
        """Set when the drain begins: streams and websockets wait for it, and end."""
        return self._life.draining

    @property
    def budget(self) -> float:
        """Seconds that a stop takes at most; an orchestrator's grace period must be longer."""
        return self._settings.budget

    # -- life -----------------------------------------------------------------------------------------------------

    def on_drain(self, hook: Any, name: str | None = None) -> None:
        """Drain background work once the requests are done, before the same deadline; the latest hook comes first.

        Args:
            hook: Called with the seconds that are left, may return an awaitable; or an object with
                `shutdown_async(deadline=...)`, such as a `WorkerPool`.
            name: What the log calls it.

        Raises:
            TypeError: When it is neither.
        """
        shutdown = getattr(hook, "shutdown_async", None)
        if callable(shutdown):
            drain: Hook = lambda left: shutdown(deadline=left)  # noqa: E731
        elif callable(hook):
            drain = hook
        else:
            raise TypeError(f"hook must be a callable, or have shutdown_async(), not {hook!r}")
        self._life.hooks.append((name or str(getattr(hook, "__qualname__", type(hook).__name__)), drain))

    async def start_server(self) -> web.AppRunner:
        """Listen, and return when start-up is over; `stop`, or the runner's `cleanup`, ends it. No signal is handled.

        Raises:
            OSError: When the address cannot be had.
            RuntimeError: When this server was started before.
        """
        listeners = self._post.listeners if self._post is not None else None
        return await self._life.start(self.host, self.port, listeners)

    async def stop(self, *, lame_duck: float = 0.0) -> bool:
        """Stop as a signal would, and return whether the end was clean.

        Args:
            lame_duck: Seconds to go on accepting while `/ready` says 503.
        """
        await self._life.stop(lame_duck=lame_duck)
        return not self._life.unclean

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve inside the block, and give its URL; signal handlers are not touched, the port is free behind it."""
        await self.start_server()
        try:
            yield self.url
        finally:
            await self.stop()

    async def serve(self) -> int:
        """Serve until SIGTERM or SIGINT, drain, and return the exit code.

        Returns:
            0 after a clean end; 1 when a second signal or the deadline cut something off, or a hook failed.

        Raises:
            OSError: When the address cannot be had.
        """
        with contextlib.ExitStack() as stack:
            stop = self._stop
            stack.enter_context(
                _signals.handled(stop.signalled, watchdog=stop.watchdog, breakable=Runner.begin.__code__)
            )
            if self._post is not None:
                stack.enter_context(self._post.orders(stop.obey))
                _post.hear_signals()
            try:
                if await self._started():
                    if self._post is not None:
                        self._post.tell(_post.READY)
                    await stop.told.wait()
            finally:
                await self._life.stop(lame_duck=stop.lame_duck, replaced=stop.replaced)
        return int(bool(self._life.unclean))

    def main(self) -> int:
        """Run until a signal comes, as the last thing that a process does, and return its exit code.

        Each of several `workers` runs this program again, from its beginning up to here, where it leaves: only in
        the supervisor does `main` return. An end that blocked code holds up beyond the `budget` comes by force.
        """
        self._post = _post.take_up()
        if self._settings.workers == 1 or self._post is not None:
            watchdog = self._stop.guarded(self._post)
            code = run(self.serve, self._settings.uvloop, watchdog)
            if self._post is not None:
                sys.exit(code)
            return code
        set_up_logging()
        supervisor = Supervisor(
            self._settings.workers,
            source=self._life.source,
            budget=self.budget,
            cleanup=self._settings.cleanup_timeout,
            metrics=self._settings.metrics,
        )
        try:
            listeners = _address.bind(self._settings, self.host, self.port)
        except OSError as error:
            log.error("cannot serve: %s", error)  # noqa: TRY400 - an address in use needs no traceback
            return 1
        if self._settings.unix_socket is None:
            self.port = listeners[0].getsockname()[1]
        return supervisor.run(listeners)

    async def _started(self) -> bool:
        """Start, and return whether that came to its end before anybody said stop."""
        starting = asyncio.create_task(self.start_server())
        told = asyncio.create_task(self._stop.told.wait())
        try:
            await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
            if (
                starting.done() and starting.cancelled()
            ):  # by a signal, which the loop will hear of in a moment
                await asyncio.wait({told}, timeout=GRACE)
            elif not starting.done():
                starting.cancel()
                await asyncio.wait({starting}, timeout=GRACE)
        finally:
            told.cancel()
            starting.cancel()
        if starting.done() and not starting.cancelled():
            starting.result()
            return True
        if not (starting.done() and self._stop.told.is_set()):
            self._life.unclean.append("start-up was cut off")
        return False
