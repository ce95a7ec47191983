"""The life of one server, from start-up to the last cleanup hook; each step happens once, whoever asks for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Any, Final

from pytest_prodpatterns.lab import emit
from pytest_prodpatterns.patterns.server import _address, _door
from pytest_prodpatterns.patterns.server._active import Active
from pytest_prodpatterns.patterns.server._drain import LINGER, Drain, Hook, call, finished
from pytest_prodpatterns.patterns.server._guard import Handler
from pytest_prodpatterns.patterns.server._metrics import Metrics, metrics
from pytest_prodpatterns.patterns.server._pulse import Pulse
from pytest_prodpatterns.patterns.server._runner import Runner
from pytest_prodpatterns.patterns.server._settings import Settings
from pytest_prodpatterns.patterns.server._state import LifeEvent, ServerState, advance

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from aiohttp import web

log = logging.getLogger("pytest_prodpatterns.server")
BATCH: Final = 64
"""Connections that the only process accepts before other work has its turn."""
RETIRING: Final = 1.0
"""Seconds that clients of a replaced process have to send a request, and be told to come back elsewhere."""


class Life:
    """The life cycle of a server.

    Args:
        app: The application.
        settings: The settings.
    """

    def __init__(self, app: web.Application, settings: Settings) -> None:
        self.source = f"server:{settings.name}"
        self.state = ServerState.STARTING
        self.draining = asyncio.Event()
        self.hooks: list[tuple[str, Hook]] = []
        self.url = ""
        self.active = Active(settings.handler_timeout)
        self.metrics: Metrics | None = None
        if settings.metrics:
            self.metrics = metrics(lambda: len(self.active), lambda: self.lag)
        self.unclean: list[str] = []  # why the exit code will be 1
        self.max_loop_lag = settings.max_loop_lag
        self.retry_after = str(settings.retry_after)
        self.replaced = False
        self.while_starting: Handler
        self.runner: Runner | None = None
        self._app = app
        self._settings = settings
        self._forced = asyncio.Event()
        self._hurry = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self._door: _door.Door | None = None
        self._pulse: Pulse | None = None

    @property
    def lag(self) -> float:
        """Seconds by which the event loop was late at most, lately."""
        return self._pulse.lag if self._pulse is not None else 0.0

    async def start(
        self, host: str | None, port: int, listeners: list[socket.socket] | None = None
    ) -> Runner:
        """Listen, run the start-up hooks, and be ready.

        Args:
            host: Where to listen.
            port: On which port.
            listeners: Sockets of a supervisor, to accept from instead.

        Raises:
            RuntimeError: When the server was started before: an application lives once.
            OSError: When the address cannot be had.
        """
        if self.runner is not None:
            raise RuntimeError(
                "this server was started before; an application lives once, so make a new server"
            )
        emit(self.source, "started")
        self.runner = Runner(
            self._app,
            self._settings,
            self.active,
            self.metrics,
            source=self.source,
            while_starting=self.while_starting,
            stop=self.stop,
        )
        try:
            await self.runner.setup()
            self._pulse = Pulse(self.metrics.beat if self.metrics is not None else bool)
            await self._listen(host, port, listeners)
            await self.runner.begin()
        except BaseException:
            await self.stop()
            raise
        self._step(LifeEvent.STARTED, url=self.url)
        return self.runner

    async def stop(self, *, lame_duck: float = 0.0, replaced: bool = False) -> None:
        """Stop, once; every caller waits for the same end.

        Args:
            lame_duck: Seconds to go on accepting while `/ready` says 503.
            replaced: Whether another process goes on accepting from the same sockets.
        """
        if self._ending is None:
            self.replaced = replaced
            self._ending = asyncio.create_task(self._end(lame_duck))
        await asyncio.shield(self._ending)

    def force(self, why: str) -> None:
        """Take all time away from the drain; the cleanup still happens."""
        if self.state in {
            ServerState.STARTING,
            ServerState.LAME_DUCK,
            ServerState.DRAINING,
            ServerState.READY,
        }:
            self.unclean.append(why)
            emit(self.source, "forced", reason=why)
            self._forced.set()
            self._hurry.set()

    async def _listen(self, host: str | None, port: int, listeners: list[socket.socket] | None) -> None:
        told, runner = self._settings, self.runner
        assert runner is not None
        assert runner.server is not None
        sockets = listeners or _address.bind(told, host, port)
        with contextlib.ExitStack() as undo:
            for each in sockets:
                undo.enter_context(each)
                each.listen(told.backlog)
            undo.pop_all()
        self.url = _url(told, host, sockets[0])
        self._door = _door.Door(
            runner.server,
            sockets,
            tls=told.tls,
            path=told.unix_socket,
            batch=BATCH if listeners is None else 1,
        )
        await _door.Site(runner, self._door, self.url).start()
        log.info("listening on %s", self.url)
        emit(self.source, "listening", url=self.url)

    def _step(self, event: LifeEvent, **attributes: Any) -> None:
        self.state = advance(self.state, event)
        emit(self.source, self.state.value, **attributes)

    async def _end(self, lame_duck: float) -> None:
        self.active.leaving = True
        if self.state is ServerState.STARTING:
            await self._turn_away()
        else:
            if lame_duck:
                self._step(LifeEvent.WARNED, seconds=lame_duck)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), lame_duck)
            self._step(LifeEvent.TOLD)
            try:
                await self._drain()
            except Exception:  # the cleanup has to come, whatever failed
                log.exception("the drain failed")
                self.unclean.append("the drain failed")
        self._step(LifeEvent.EMPTIED)
        await self._clean()
        self._step(LifeEvent.CLEANED, clean=not self.unclean)
        emit(self.source, "closed")

    async def _turn_away(self) -> None:
        """Answer those who asked during start-up, and nobody else."""
        await self._stop_listening()
        if self.runner is not None and self.runner.server is not None:
            await self._new_drain(self.runner.server, min(self._settings.drain_timeout, 1.0)).requests()

    async def _drain(self) -> None:
        runner = self.runner
        assert runner is not None
        assert runner.server is not None
        drain = self._new_drain(runner.server, self._settings.drain_timeout)
        self.draining.set()
        telling = asyncio.create_task(call(self._app.shutdown))
        await self._stop_listening()
        if cut_off := await drain.requests():
            self.unclean.append(f"{cut_off} requests were cut off")
            emit(self.source, "aborted", requests=cut_off)
        if failed := await drain.work(reversed(self.hooks)):
            self.unclean.append(f"not drained: {', '.join(failed)}")
        await asyncio.wait({telling}, timeout=drain.left)
        if not await finished(telling, "on_shutdown"):
            self.unclean.append("on_shutdown failed")

    def _new_drain(self, server: web.Server, seconds: float) -> Drain:
        deadline = asyncio.get_running_loop().time() + seconds
        linger = RETIRING if self.replaced else LINGER
        return Drain(server, self.active, self._forced, deadline=deadline, linger=linger)

    async def _stop_listening(self) -> None:
        if self._door is not None:
            await self._door.shut(last=not self.replaced)
        if self.runner is not None:
            for site in [*self.runner.sites]:
                await site.stop()

    async def _clean(self) -> None:
        """Run every cleanup hook, whatever the others do, within the time there is for all of them."""
        self.active.close()
        if self._pulse is not None:
            self._pulse.stop()
        app = self._app
        if self.runner is None:
            return
        hooks = [*app.on_cleanup] if app.on_cleanup.frozen else [lambda _app: app.cleanup()]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.cleanup_timeout
        for hook in hooks:
            what = f"cleanup hook {getattr(hook, '__qualname__', hook)}"
            if not await _within(call(hook, app), deadline - loop.time(), what):
                self.unclean.append(f"{what} failed")
        for reason in self.unclean:
            log.error("not a clean end: %s", reason)


async def _within(work: Coroutine[Any, Any, None], seconds: float, what: str) -> bool:
    task = asyncio.create_task(work)
    await asyncio.wait({task}, timeout=max(0.0, seconds))
    return await finished(task, what)


def _url(told: Settings, host: str | None, listener: socket.socket) -> str:
    scheme = "https" if told.tls else "http"
    if told.unix_socket is not None:
        return f"{scheme}+unix://{told.unix_socket}"
    shown = "127.0.0.1" if host in {None, "", "0.0.0.0"} else f"[{host}]" if ":" in str(host) else host  # noqa: S104
    return f"{scheme}://{shown}:{listener.getsockname()[1]}"
