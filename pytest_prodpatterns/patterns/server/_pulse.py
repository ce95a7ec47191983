"""The pulse of an event loop: how late it is, measured by a timer that the loop itself has to keep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

PERIOD: Final = 0.25
"""Seconds between two beats; what blocks the loop for less may stay unseen."""
WINDOW: Final = 2.5
"""Seconds for which a delay is told; at most twice as long."""


class Pulse:
    """A timer on the running loop, and the worst of its recent delays.

    Args:
        each: Called at each beat.
    """

    def __init__(self, each: Callable[[], object]) -> None:
        self._each = each
        self._loop = asyncio.get_running_loop()
        self._worst = self._worst_before = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._turn = time.monotonic() + WINDOW
        self._wait()

    @property
    def lag(self) -> float:
        """Seconds by which the loop was late at most, lately; a delay that still lasts counts, too."""
        overdue = time.monotonic() - self._due if self._timer is not None else 0.0
        return max(self._worst, self._worst_before, overdue)

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        self._due = time.monotonic() + PERIOD  # the time of uvloop stands still while a callback runs
        self._timer = self._loop.call_later(PERIOD, self._beat)

    def _beat(self) -> None:
        now = time.monotonic()
        self._worst = max(self._worst, now - self._due)
        if now >= self._turn:
            self._worst, self._worst_before, self._turn = 0.0, self._worst, now + WINDOW
        self._wait()
        self._each()
