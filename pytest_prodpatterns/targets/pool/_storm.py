"""A caller that keeps a window of calls in flight, and makes a new pool in place of one that is broken.

It goes no further than it is told: on a busy machine it would have all its answers before anybody had killed a worker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_prodpatterns.targets.pool._calls import Call

POOLS = 1000
"""How many pools a caller makes at most before it gives up."""


class Storm:
    """Make many calls, never more than a window at a time.

    Args:
        submit: Makes a call through a pool; returns the error with which the pool refused it, or None.
        rebuild: Makes a new pool in place of the one that refused; None when that one still serves.
        pool: The first pool.
        window: How many calls are in flight.
        upto: How many calls it may make until it is told to go on.
    """

    def __init__(
        self,
        submit: Callable[[Any, Call], BaseException | None],
        rebuild: Callable[[Any, BaseException], Any],
        pool: Any,
        window: int,
        upto: int,
    ) -> None:
        self._submit = submit
        self._rebuild = rebuild
        self._pool = pool
        self._places = threading.Semaphore(window)
        self._stopped = threading.Event()
        self._pools = 1
        self._told = threading.Condition()
        self._upto = upto  # guarded by `_told`

    def go_on(self, upto: int) -> None:
        """Make so many calls in all."""
        with self._told:
            self._upto = max(self._upto, upto)
            self._told.notify()

    def stop(self) -> None:
        """Make no more calls."""
        self._stopped.set()
        self._places.release()
        with self._told:
            self._told.notify()

    def run(self, calls: list[Call]) -> dict[str, int]:
        """Make the calls; return how many were made, and through how many pools."""
        made = 0
        for call in calls:
            self._await_leave(made)
            self._places.acquire()
            if self._stopped.is_set():
                break
            call.insists = True
            call.then(self._places.release)
            self._make(call)
            made += 1
        return {"made": made, "pools": self._pools}

    def _await_leave(self, made: int) -> None:
        with self._told:
            self._told.wait_for(lambda: made < self._upto or self._stopped.is_set())

    def _make(self, call: Call) -> None:
        while (error := self._submit(self._pool, call)) is not None and self._pools < POOLS:
            if self._stopped.is_set():
                return
            successor = self._rebuild(self._pool, error)
            if successor is None:
                time.sleep(0.001)
                continue
            self._pool = successor
            self._pools += 1
