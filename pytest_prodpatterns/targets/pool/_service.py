"""The caller of the pool, inside the host process: makes it, submits to it, and tells what came of each call.

Each verb runs in a thread of its own (`_host_process`), except `make`: a pool is made in the main thread, as
applications do, because some need its signal handlers, and because on Linux a worker may be bound to the life of
the thread that forked it.  Events go straight to the lab's spool.  Nothing here judges, and nothing repairs.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from pytest_prodpatterns.lab import emit
from pytest_prodpatterns.targets.pool import _calls
from pytest_prodpatterns.targets.pool._lag import Lag
from pytest_prodpatterns.targets.pool._load import load
from pytest_prodpatterns.targets.pool._protocol import PoolAdapter, PoolSettings
from pytest_prodpatterns.targets.pool._storm import Storm


class PoolService:
    """What the engine can ask of the host of a pool; its methods are the verbs."""

    on_main = frozenset({"describe", "make"})

    def __init__(self) -> None:
        self._adapter: PoolAdapter
        self._settings: PoolSettings
        self._pool: Any = None
        self._gates = ""
        self._futures: dict[int, Any] = {}
        self._stack = contextlib.ExitStack()
        self._lag: Lag | None = None
        self._storm: Storm | None = None

    def describe(self, target: dict[str, Any]) -> dict[str, Any]:
        """Load a target, make one of its pools where that tells more, and return what can be said of it."""
        return load(target).describe()

    def make(self, target: dict[str, Any], settings: dict[str, Any], gates: str) -> None:
        """Make the pool."""
        self._adapter = load(target)
        self._settings = PoolSettings(**settings)
        self._gates = gates
        self._pool = self._adapter.make(self._settings)
        if self._settings.drain_on_sigterm is not None:
            self._stack.enter_context(self._adapter.drain(self._pool, self._settings.drain_on_sigterm))

    def submit(self, task: str, calls: list[int], phase: str, arguments: list[Any]) -> None:
        """Submit a task once for each call, one after the other."""
        for number in calls:
            self._submit(self._pool, _calls.Call(number, task, phase, arguments))

    def cancel(self, calls: list[int]) -> int:
        """Cancel the futures of calls; return how many said that they were."""
        return sum(bool(self._futures[number].cancel()) for number in calls if number in self._futures)

    def shutdown(self, wait: bool, cancel: bool, deadline: float | None) -> float:
        """Shut the pool down; return how many seconds it took."""
        began = time.monotonic()
        self._adapter.shutdown(self._pool, wait=wait, cancel=cancel, deadline=deadline)
        return time.monotonic() - began

    def loop_lag(
        self, task: str, calls: list[int], phase: str, arguments: list[Any], seconds: float
    ) -> dict[str, float]:
        """Submit on a running event loop, and return for how long that stood still; it runs on afterwards."""
        self._lag = self._lag or Lag()
        for number in calls:
            call = _calls.Call(number, task, phase, arguments)
            self._lag.start(
                call.run(lambda fn, *args: self._adapter.run_async(self._pool, fn, *args), self._gates)
            )
        return self._lag.measure(seconds)

    def storm(
        self, *, first: int, count: int, phase: str, milliseconds: float, window: int, upto: int
    ) -> dict[str, int]:
        """Keep a window of calls in flight until all were made; return how many were, and how many pools."""
        self._storm = Storm(self._submit_to, self._rebuild, self._pool, window, upto)
        return self._storm.run(
            [_calls.Call(first + index, "work", phase, [milliseconds]) for index in range(count)]
        )

    def go_on(self, upto: int) -> None:
        """Make so many calls of the storm in all."""
        if self._storm is not None:
            self._storm.go_on(upto)

    def end_storm(self) -> None:
        """Make no more calls."""
        if self._storm is not None:
            self._storm.stop()

    def _submit(self, pool: Any, call: _calls.Call) -> None:
        future = call.make(
            lambda fn, *args: self._adapter.submit(pool, fn, *args), self._adapter, self._gates
        )
        if future is not None:
            self._futures[call.number] = future

    def _submit_to(self, pool: Any, call: _calls.Call) -> BaseException | None:
        self._submit(pool, call)
        return call.refused

    def _rebuild(self, pool: Any, error: BaseException) -> Any:
        """Make a new pool in place of one that refuses; None when it only was full."""
        if isinstance(error, self._adapter.full_errors()):
            return None
        text = str(_calls.told(error)["text"])
        emit(f"target:{self._adapter.name}", "rebuilt", why=type(error).__name__, text=text)
        _calls.in_background(lambda: self._adapter.shutdown(pool, wait=False, cancel=False, deadline=None))
        self._pool = self._adapter.make(self._settings)
        return self._pool
