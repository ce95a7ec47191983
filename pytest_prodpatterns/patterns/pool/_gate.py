"""Backpressure: a bounded number of places, and an orderly line of those who wait for one.

A place that becomes free is handed to the first who waits, before he wakes up; so nobody overtakes, nobody
wakes in vain, and "full" means the same for those who wait and for those who do not. Threads and coroutines
stand in one line.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from pytest_prodpatterns.patterns.pool._errors import QueueFull

if TYPE_CHECKING:
    from collections.abc import Callable


class _Waiter:
    """Somebody in the line.

    Attributes:
        wake: Called without the lock when it is his turn, or when the gate closes.
        granted: Whether a place is his.
    """

    __slots__ = ("granted", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self.wake = wake
        self.granted = False


class Gate:
    """A bounded number of places.

    Args:
        capacity: How many; None for no bound.
        name: Whose they are, for errors.

    Attributes:
        taken: How many are taken; never more than `capacity`.
    """

    def __init__(self, capacity: int | None, name: str) -> None:
        self.capacity = capacity
        self.taken = 0
        self._name = name
        self._lock = threading.Lock()
        self._line: deque[_Waiter] = deque()  # nobody stands here while a place is free
        self._closed: Callable[[], Exception] | None = None

    def try_take(self) -> bool:
        """Take a place if one is free.

        Raises:
            PoolError: When the gate is closed, as `close` was told.
        """
        with self._lock:  # nothing is allocated under it: a finalizer might come here, too
            if self._closed is None:
                return self._take()
        raise self._closed()

    def take(self, timeout: float | None = None) -> None:
        """Take a place; wait for one if none is free.

        Args:
            timeout: Seconds to wait, or None for as long as it takes.

        Raises:
            QueueFull: When none became free in time.
            PoolError: When the gate is closed, or closes meanwhile.
        """
        turn = threading.Event()
        waiter = self._enter(turn.set)
        if waiter is None:
            return
        started = time.monotonic()
        interrupted = True
        try:
            turn.wait(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
            interrupted = False
        finally:
            granted = self._leave(waiter, keep=not interrupted)
        if not granted:
            raise self.full(time.monotonic() - started)

    async def take_async(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as `take` has it
        """Take a place; wait for one without blocking the loop. See `take`."""
        import asyncio  # noqa: PLC0415 - only who awaits needs it

        loop = asyncio.get_running_loop()
        turn = loop.create_future()

        def wake() -> None:
            if not turn.done():
                turn.set_result(None)

        def call() -> None:
            try:
                loop.call_soon_threadsafe(wake)
            except RuntimeError:  # the loop was closed while somebody waited there: he is gone as well
                assert waiter is not None
                self._leave(waiter, keep=False)

        waiter = self._enter(call)
        if waiter is None:
            return
        started = time.monotonic()
        cancelled = True
        try:
            await asyncio.wait([turn], timeout=timeout)
            cancelled = False
        finally:
            granted = self._leave(waiter, keep=not cancelled)
        if not granted:
            raise self.full(time.monotonic() - started)

    def give(self, count: int = 1) -> None:
        """Give places back; they go to those who wait, in their order."""
        woken: list[_Waiter] = []
        with self._lock:
            self.taken -= count
            if not self._line:
                return
            while self._line and self._free():
                waiter = self._line.popleft()
                waiter.granted = True
                self.taken += 1
                woken.append(waiter)
        for waiter in woken:
            waiter.wake()

    def close(self, error: Callable[[], Exception]) -> None:
        """Refuse everybody from now on, those who wait as well.

        Args:
            error: Makes what is raised.
        """
        with self._lock:
            self._closed = error
            waiting = [*self._line]
            self._line.clear()
        for waiter in waiting:
            waiter.wake()

    def full(self, waited: float | None = None) -> QueueFull:
        """Return the error that says that no place is free."""
        assert self.capacity is not None
        return QueueFull(capacity=self.capacity, waited=waited, name=self._name)

    def _free(self) -> bool:
        return self.capacity is None or self.taken < self.capacity

    def _take(self) -> bool:
        if self.capacity is not None and self.taken >= self.capacity:
            return False
        self.taken += 1
        return True

    def _enter(self, wake: Callable[[], object]) -> _Waiter | None:
        waiter = _Waiter(wake)
        with self._lock:
            if self._closed is None:
                if self._take():
                    return None
                self._line.append(waiter)
                return waiter
        raise self._closed()

    def _leave(self, waiter: _Waiter, *, keep: bool) -> bool:
        """Leave the line; return whether a place is the waiter's, which he gives back unless he keeps it."""
        with self._lock:
            if not waiter.granted:
                if waiter in self._line:
                    self._line.remove(waiter)
                if self._closed is not None and keep:
                    raise self._closed()
                return False
            if keep:
                return True
            waiter.granted = False
        self.give()
        return False
