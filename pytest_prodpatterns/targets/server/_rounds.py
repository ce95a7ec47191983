"""What clients do again and again by themselves: a balancer's traffic, and the question whether it is welcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from pytest_prodpatterns.targets.server._connection import Way
from pytest_prodpatterns.targets.server._exchange import Exchange
from pytest_prodpatterns.targets.server._protocol import Request

MOST: Final = 2000
"""Connections of one route."""
_SHORTEST: Final = 0.001
_PATIENCE: Final = 1.0
"""Seconds for an answer to a poll."""


class Route:
    """Begins something again and again; in the thread of the loop.

    Args:
        loop: The loop.
        seconds: For how long.
        every: Seconds between two; longer when there would be more than MOST.
        begin_one: What is done.
        ended: Called once, behind the last, or when it is stopped.

    Attributes:
        times: How often it will be done.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        every: float,
        begin_one: Callable[[], object],
        ended: Callable[[Route], None],
    ) -> None:
        self._every = max(every, seconds / MOST, _SHORTEST)
        self.times = max(1, round(seconds / self._every))
        self._loop = loop
        self._begin_one = begin_one
        self._ended = ended
        self._next: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Begin."""
        self._start = self._loop.time()
        self._step(1)

    def stop(self) -> None:
        """Begin no more."""
        if self._next is not None:
            self._next.cancel()
        self._ended(self)

    def _step(self, number: int) -> None:
        self._begin_one()
        if number == self.times:
            self._ended(self)
        else:
            self._next = self._loop.call_at(self._start + number * self._every, self._step, number + 1)


class Poll:
    """Asks for a path again and again, each time on a new connection; in the thread of the loop.

    Args:
        way: How connections are made.
        path: What is asked for.
        every: Seconds between two questions; the next waits for the answer to the one before.
        tell: Gets the status, 0 for no answer, and the instant.
    """

    def __init__(
        self,
        way: Way,
        path: str,
        every: float,
        tell: Callable[[int, float], None],
    ) -> None:
        self._loop = way.loop
        self._way = way._replace(within=_PATIENCE)
        self._every = every
        self._tell = tell
        self._request = Request(path=path, headers={"Connection": "close"}, hang_up=_PATIENCE)
        self._exchange: Exchange | None = None
        self._next: asyncio.TimerHandle | None = None
        self._stopped = False

    def begin(self) -> None:
        """Ask."""
        self._exchange = Exchange(self._way, self._request, lambda _: None, self._returned)
        self._exchange.begin()

    def stop(self) -> None:
        """Ask no more, and tell no more."""
        self._stopped = True
        if self._next is not None:
            self._next.cancel()
        if self._exchange is not None:
            self._exchange.finish()

    def _returned(self, exchange: Exchange) -> None:
        if self._stopped:
            return
        self._next = self._loop.call_at(max(exchange.began + self._every, self._loop.time()), self.begin)
        status = exchange.facts().get("status", 0)
        self._tell(status, exchange.first_byte if status and exchange.first_byte else time.monotonic())


__all__ = ["MOST", "Poll", "Route"]
