"""The routes that an orchestrator asks: is it alive, may it get traffic, has it started, how is it doing."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from pytest_prodpatterns.patterns.server._life import Life
from pytest_prodpatterns.patterns.server._problem import problem
from pytest_prodpatterns.patterns.server._request import Request
from pytest_prodpatterns.patterns.server._state import ServerState

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """The routes of one server.

    Args:
        life: Its life cycle.
    """

    def __init__(self, life: Life) -> None:
        self._life = life

        self._routes = {"/health": self.health, "/ready": self.ready, "/startup": self.startup}
        if life.metrics is not None:
            self._routes["/metrics"] = self.metrics
        life.while_starting = self.while_starting

    def add_routes(self, app: web.Application) -> None:
        """Add each route that the application does not have."""
        there = {resource.canonical for resource in app.router.resources()}
        for path, handler in self._routes.items():
            if path not in there:
                app.router.add_get(path, handler)

    async def while_starting(self, request: Request) -> web.StreamResponse:
        """Answer instead of the application, which is not there yet: only our routes are."""
        handler = self._routes.get(request.path)
        if handler is not None:
            return await handler(request)
        response = problem(503, "The server is starting.", request_id=request.id)
        response.headers["Retry-After"] = self._life.retry_after
        return response

    async def health(self, _request: web.Request) -> web.StreamResponse:
        """Answer 200 as long as the loop turns, in a drain too: a liveness probe must not kill a drain."""
        lag = self._life.lag
        healthy = self._life.max_loop_lag is None or lag <= self._life.max_loop_lag
        body = {"status": "healthy" if healthy else "lagging", "loop_lag": round(lag, 3)}
        return web.json_response(body, status=200 if healthy else 503)

    async def ready(self, _request: web.Request) -> web.StreamResponse:
        """Answer 200 when traffic is welcome, 503 from the first signal on."""
        if self._life.replaced:  # by another process at the same address
            return web.json_response({"status": ServerState.READY})
        state = self._life.state
        return web.json_response({"status": state}, status=200 if state is ServerState.READY else 503)

    async def startup(self, _request: web.Request) -> web.StreamResponse:
        """Answer 200 once the server has started."""
        started = self._life.state is not ServerState.STARTING
        return web.json_response({"status": self._life.state}, status=200 if started else 503)

    async def metrics(self, _request: web.Request) -> web.StreamResponse:
        """Answer with what was counted."""
        assert self._life.metrics is not None
        body = self._life.metrics.render()
        return web.Response(body=body, headers={"Content-Type": METRICS_TYPE})
