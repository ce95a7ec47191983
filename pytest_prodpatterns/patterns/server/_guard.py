"""What stands before every handler: request id, limits, errors; one coroutine instead of a stack of middlewares.

It stands outside of the application, so that an application of one's own, its 404 and the errors of its
middlewares are served alike.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import current_task
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.web import Response

from pytest_prodpatterns.lab import emit, listening
from pytest_prodpatterns.patterns.server._active import Active
from pytest_prodpatterns.patterns.server._metrics import Metrics
from pytest_prodpatterns.patterns.server._problem import dress, problem
from pytest_prodpatterns.patterns.server._request import (
    HEADER,
    NUMBERS,
    PREFIX,
    REQUEST_ID,
    Request,
    identify,
)

log = logging.getLogger("pytest_prodpatterns.server")
EXEMPT: Final = frozenset({"/health", "/ready", "/startup", "/metrics"})
"""Routes that are answered however busy the server is."""
Handler = Callable[[Request], Awaitable[web.StreamResponse]]


class AnswerAbortedError(ConnectionError):
    """A response that had begun cannot be finished; aiohttp closes the connection, and says nothing."""


class Guard:
    """The guard of one server.

    Args:
        inner: Answers; the application, once that has started.
        active: The books.
        metrics: What counts, or None.
        source: Who emits events.
        limit: How many handlers may run at once.
        retry_after: Seconds that a client that was turned away should wait.
    """

    def __init__(
        self,
        inner: Handler,
        active: Active,
        metrics: Metrics | None,
        *,
        source: str,
        limit: int,
        retry_after: int,
    ) -> None:
        self.inner = inner
        self._active = active
        self._metrics = metrics
        self._source = source
        self._limit = limit
        self._retry_after = str(retry_after)
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time

    async def handle(self, request: Request) -> web.StreamResponse:
        """Answer one request."""
        given = request.headers.get(HEADER)
        request.id = identity = f"{PREFIX}{next(NUMBERS)}" if given is None else identify(given)
        REQUEST_ID.set(identity)  # the task is this request's own
        active = self._active
        requests = active.requests
        if len(requests) >= self._limit and request.path not in EXEMPT:
            return self._turn_away(request)
        task = current_task(self._loop)
        assert task is not None
        request.started = self._time()
        requests[task] = request
        if active.timer is None:
            active.watch()
        try:
            response = await self.inner(request)
            # in two steps, for the second is slow: aiohttp's responses are abstract base classes
            if type(response) is not Response and not isinstance(response, web.StreamResponse):
                raise TypeError(f"a handler must return a response, not {type(response).__name__}")  # noqa: TRY301
        except BaseException as error:  # noqa: BLE001 - sorted there, and raised again when it is not ours
            response = self._answer_for(request, error)
        finally:
            del requests[task]
        if self._metrics is not None:
            self._metrics.count(request.method, response.status, self._time() - request.started)
        if active.leaving:
            response.force_close()
        return response

    def _answer_for(self, request: Request, error: BaseException) -> web.Response:
        """Return what answers instead of a handler that raised; or raise what aiohttp has to handle."""
        if isinstance(error, asyncio.CancelledError):
            return self._cut_off(request, error)
        if not isinstance(error, Exception | SystemExit):
            raise error
        if request.begun and not (isinstance(error, web.HTTPException) and error.prepared):
            self._count(request, 500)
            raise self._abort(request, error) from error
        if isinstance(error, web.HTTPException):
            dress(error, request.id)
            if self._active.leaving:
                error.force_close()
            self._count(request, error.status)
            raise error
        self._tell("unhandled", request, error)  # a bug, even SystemExit, does not end the server
        return problem(500, request_id=request.id)

    def _count(self, request: Request, status: int) -> None:
        if self._metrics is not None:
            self._metrics.count(request.method, status, self._time() - request.started)

    def _cut_off(self, request: Request, cancelled: asyncio.CancelledError) -> web.Response:
        """Answer instead of a handler that was cancelled; by somebody else: not our business."""
        task = asyncio.current_task()
        assert task is not None
        if request.reason is None or request.begun:
            raise cancelled
        task.uncancel()
        if listening():
            emit(self._source, "cut-off", reason=request.reason, request=request.id)
        if request.reason != "deadline" and not request.content.is_eof():
            request.protocol.expect_no_more()  # type: ignore[attr-defined]
            response = problem(408, "The body did not arrive in time.", request_id=request.id)
        else:
            detail = "The server stops." if request.reason == "deadline" else "The request took too long."
            response = problem(503, detail, request_id=request.id)
            response.headers["Retry-After"] = self._retry_after
        response.force_close()
        return response

    def _turn_away(self, request: Request) -> web.Response:
        if self._metrics is not None:
            self._metrics.count_shed()
        request.started = self._time()
        self._count(request, 503)
        if listening():
            emit(self._source, "shed", request=request.id)
        response = problem(503, "The server is busy.", request_id=request.id)
        response.headers["Retry-After"] = self._retry_after
        if self._active.leaving:
            response.force_close()
        return response

    def _abort(self, request: Request, error: BaseException) -> AnswerAbortedError:
        """Break the connection, so that nobody takes half an answer for a whole one."""
        if request.transport is not None:  # else the client went first
            self._tell("failed behind the head of its response", request, error)
            request.transport.abort()
        return AnswerAbortedError("the response had begun")

    @staticmethod
    def _tell(what: str, request: Request, error: BaseException) -> None:
        log.error(
            "%s: %s %r, request %s",
            what,
            request.method,
            request.path,
            request.id,
            exc_info=error,
            extra={"request_id": request.id},
        )
