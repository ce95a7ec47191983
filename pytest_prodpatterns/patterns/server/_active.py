"""The requests in flight: how many, since when, and which of them take too long.

One timer serves them all: every request has the same time, so the oldest one is due first, and a dictionary
keeps them in the order of their arrival.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_prodpatterns.patterns.server._request import Request


class Active:
    """The books.

    Args:
        handler_timeout: Seconds until a handler must have begun to answer, or None.
    """

    def __init__(self, handler_timeout: float | None) -> None:
        self.leaving = False  # set once, when the server is told to stop
        self.requests: dict[asyncio.Task[Any], Request] = {}
        self._timeout = handler_timeout
        self.timer: asyncio.TimerHandle | None = None  # there is one while there are requests

    def __len__(self) -> int:
        return len(self.requests)

    def watch(self) -> None:
        """Look for the oldest one when its time is over."""
        if self._timeout is not None:
            self.timer = asyncio.get_running_loop().call_later(self._timeout, self._look)

    def cancel(self, task: asyncio.Task[Any], request: Request, reason: str) -> None:
        """Cancel a handler, once."""
        if request.reason is None:
            request.reason = reason
            task.cancel()

    def cancel_all(self, reason: str) -> int:
        """Cancel every handler and return how many there were."""
        for task, request in [*self.requests.items()]:
            self.cancel(task, request, reason)
        return len(self.requests)

    def close(self) -> None:
        """Forget the timer."""
        if self.timer is not None:
            self.timer.cancel()
        self._timeout = None

    def _look(self) -> None:
        self.timer = None
        if self._timeout is None:
            return
        loop = asyncio.get_running_loop()
        for task, request in [*self.requests.items()]:
            left = request.started + self._timeout - loop.time()
            if left > 0:
                self.timer = loop.call_later(left, self._look)
                return
            if not request.begun:  # what streams may stream on
                self.cancel(task, request, "timeout")
