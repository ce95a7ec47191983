"""An event loop in a thread of the host, and a ticker that tells for how long it stands still."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

TICK = 0.01
"""Seconds between two ticks of a loop that runs freely."""


class Lag:
    """An event loop that runs until the host ends, whatever blocks it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._ticked = time.monotonic()
        self._lags: list[float] = []
        self._running: set[asyncio.Task[Any]] = set()
        threading.Thread(target=self._run, name="loop", daemon=True).start()

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Start a task on the loop."""
        self._loop.call_soon_threadsafe(self._start, coroutine)

    def measure(self, seconds: float) -> dict[str, float]:
        """Look for that long; return the worst and the mean lag, and the number of ticks."""
        del self._lags[:]
        began = time.monotonic()
        time.sleep(seconds)
        lags = [*self._lags, time.monotonic() - max(self._ticked, began) - TICK]
        return {"worst": max(0.0, *lags, 0.0), "mean": sum(lags) / len(lags), "ticks": float(len(lags) - 1)}

    def _start(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        task = self._loop.create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        # As asyncio.run does: anyio looks for the task that is run.
        self._loop.run_until_complete(self._tick())

    async def _tick(self) -> None:
        while True:
            self._ticked = time.monotonic()
            await asyncio.sleep(TICK)
            self._lags.append(max(0.0, time.monotonic() - self._ticked - TICK))
