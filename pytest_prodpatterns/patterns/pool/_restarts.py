"""How often workers may be replaced, and how fast (OTP's restart intensity); no clock inside.

Deaths are normal: one kills a task at most, and the next worker goes on. What must end is a crash loop. A
worker that dies before it was ready would be replaced for ever (gunicorn stops at its first boot error), and
a machine that kills every worker wants to be left alone.
"""

from __future__ import annotations

from collections import deque
from typing import Final

FIRST_DELAY: Final = 0.01
LONGEST_DELAY: Final = 0.1
"""Seconds between a death and the replacement, when nothing was answered in between."""


class Restarts:
    """Decide whether and when a dead worker is replaced.

    Args:
        max_restarts: Deaths within the period that are still replaced.
        period: Seconds.
        max_boot_failures: Boot failures in a row that are too many.
    """

    def __init__(self, max_restarts: int, period: float, max_boot_failures: int) -> None:
        self.max_restarts = max_restarts
        self.period = period
        self.max_boot_failures = max_boot_failures
        self.total = 0
        self.boot_failures = 0  # in a row
        self._deaths: deque[float] = deque()  # times of the deaths within the period, oldest first
        self._barren = 0  # deaths since the last answer

    def died(self, now: float, *, ready: bool) -> str | None:
        """Note a death that nobody ordered.

        Args:
            now: Seconds on any clock that does not go back.
            ready: Whether the worker had been ready for tasks.

        Returns:
            Why the pool is broken now, or None while the worker is to be replaced.
        """
        self.total += 1
        self._barren += 1
        self._deaths.append(now)
        while self._deaths and self._deaths[0] <= now - self.period:
            self._deaths.popleft()
        if not ready:
            self.boot_failures += 1
            if self.boot_failures >= self.max_boot_failures:
                return f"{self.boot_failures} workers in a row ended before they were ready"
        if len(self._deaths) > self.max_restarts:
            return (
                f"{len(self._deaths)} workers ended within {self.period:g} s, {self.max_restarts} are allowed"
                " (max_restarts)"
            )
        return None

    def became_ready(self) -> None:
        """Note that a worker started well."""
        self.boot_failures = 0

    def answered(self) -> None:
        """Note that work gets done."""
        self._barren = 0

    @property
    def delay(self) -> float:
        """Seconds to wait before the next replacement."""
        if self._barren <= 1:
            return 0.0
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self._barren - 2, 10))
