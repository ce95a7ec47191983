"""Executors that are full of tasks which wait.

Theory of operation.  A thread of ours submits tasks that wait at a gate, one after the other, until it is told to
end: it waits with `submit` where that blocks, and tries again where it raises `queue.Full`.  So whatever place
becomes free is taken again.  After the release no task is cancelled, for that may cost a worker its life: each
finds the gate open and ends.
"""

from __future__ import annotations

import concurrent.futures
import os
import queue
import threading
import time
from typing import Any, Final

from pytest_prodpatterns.faults._processes_victim import until
from pytest_prodpatterns.faults._queues_gate import Gate, wait_at

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

DEADLINE: Final = 10.0
"""Real seconds within which an executor must be full."""

LEAVE: Final = 2.0
"""Real seconds that our tasks get to leave it; they cannot while a worker is stopped, and will when it goes on."""

STILL: Final = 0.25
"""Real seconds that `submit` must have waited until we believe that an executor is full."""

BRIEF: Final = 0.02
"""The same for an executor that says so itself: the task that filled it is to be counted, too."""

BLINK: Final = 0.02
"""No more real seconds than these count from one look to the next: a machine that paused has seen nothing wait."""

LIMIT: Final = 20_000
"""So many tasks, and no executor with a bound takes more."""


class FilledPool:
    """An executor that takes no more tasks.

    Args:
        pool: The executor.

    Raises:
        ValueError: When it has no bound.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._capacity = _capacity(pool)
        self._accepted: list[concurrent.futures.Future[Any]] = []
        self._error: BaseException | None = None
        self._tried = 0.0  # since when `submit` is trying
        self._watched = 0.0  # which of its tries we watch,
        self._looked = 0.0  # when we looked last,
        self._waited = 0.0  # and for how long we have seen that try wait
        self._full = False  # whether it raised queue.Full
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._submit_on, name="prodpatterns-full-queue", daemon=True)
        self._gate: Gate | None = None

    @property
    def size(self) -> int:
        """How many tasks it takes, as far as we know."""
        return self._capacity or len(self._accepted)

    @property
    def filled(self) -> int:
        """How many of our tasks are in it."""
        return sum(not future.done() for future in self._accepted)

    def fill(self) -> None:
        """Submit tasks until it takes no more.

        Raises:
            ValueError: When it seems to take any number.
            TimeoutError: When it does not become full in time.
            Exception: Whatever `submit` raised, other than `queue.Full`.
        """
        _start_processes(self._pool)
        self._gate = Gate()
        self._thread.start()
        settled = until(lambda: self._error is not None or self._is_full(), DEADLINE)
        if self._error is not None:
            raise self._error
        if not settled:
            raise TimeoutError(f"full_queue(): {self._pool!r} was not full within {DEADLINE:g} s")

    def release(self) -> None:
        """Let our tasks end, and wait for that."""
        self._over.set()
        if self._gate is not None:
            self._gate.open()
        end = time.monotonic() + LEAVE
        if self._thread.ident is not None:
            self._thread.join(LEAVE)
        concurrent.futures.wait(self._accepted, max(0.0, end - time.monotonic()))

    def _is_full(self) -> bool:
        known = self._capacity is not None
        if known and self._pool.pending < self._capacity:
            return False
        return self._full or self._look() > (BRIEF if known else STILL)

    def _look(self) -> float:
        """Return for how many seconds we have seen `submit` wait."""
        now = time.monotonic()
        if self._watched and self._watched == self._tried:
            self._waited += min(now - self._looked, BLINK)
        else:
            self._watched, self._waited = self._tried, 0.0
        self._looked = now
        return self._waited

    def _submit_on(self) -> None:
        assert self._gate is not None
        while not self._over.is_set():
            self._tried = time.monotonic()
            try:
                self._accepted.append(self._pool.submit(wait_at, self._gate.path, os.getpid()))
                self._full = False
            except queue.Full:
                self._full = True
                self._over.wait(0.002)
            except BaseException as error:  # noqa: BLE001 - it belongs to the thread that fills
                self._error = error
                return
            if len(self._accepted) > LIMIT and self._capacity is None:
                self._error = _unbounded(self._pool)
                return


def _capacity(pool: Any) -> int | None:
    """Return how many tasks a pool takes; None when it does not say."""
    plain = {concurrent.futures.ThreadPoolExecutor, concurrent.futures.ProcessPoolExecutor}
    capacity = getattr(pool, "capacity", 0)
    if type(pool) in plain or capacity is None:
        raise _unbounded(pool)
    return capacity or None


def _unbounded(pool: Any) -> ValueError:
    return ValueError(f"full_queue(): {pool!r} takes any number of tasks, so it is never full")


def _start_processes(pool: Any) -> None:
    """Let an executor fork its workers before we start a thread: CPython warns of forking with threads."""
    if isinstance(pool, concurrent.futures.ProcessPoolExecutor) and not pool._processes:  # noqa: SLF001
        pool.submit(int).result(DEADLINE)
