"""How a scenario's seconds pass: virtually where the breaker follows the lab's clock, else really, but short.

A scenario speaks of breaks of sixty seconds.  On virtual time those cost nothing.  On real time a second of
the scenario is `unit` real seconds long, and whatever has to happen before a break elapses must really do so:
the pace keeps the schedule, and says `Late` when the machine fell behind it by more than a breaker's sixth.
The bench then starts again with longer seconds, so that a slow machine never decides a verdict.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Protocol

from pytest_prodpatterns.lab import VirtualClock, patched

_TOLERATED = 1 / 6
"""The part of a break by which a step may come late; scenarios keep twice that between step and deadline."""


class Late(Exception):  # noqa: N818
    """The machine was too slow for the length of a second; the text says by how much."""


class Pace(Protocol):
    """Let a scenario's seconds pass.

    Attributes:
        unit: Real or virtual seconds that a second of the scenario takes.
    """

    unit: float

    def advance(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Let `seconds` of the scenario pass; the loop's timers run meanwhile."""

    def excuse(self, real_seconds: float) -> None:
        """Forget real time that was spent on waiting for a caller that never came back."""

    def check(self, recovery_timeout: float) -> None:
        """Raise `Late` when the schedule was missed."""


class VirtualPace:
    """Virtual seconds: free, exact, never late."""

    unit = 1.0

    def __init__(self, loop: asyncio.AbstractEventLoop, stack: contextlib.ExitStack) -> None:
        self._clock = stack.enter_context(patched(loop, VirtualClock(grace=0.0)))

    def advance(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Move the clock from timer to timer."""
        loop.run_until_complete(_awaited(self._clock, seconds))

    def excuse(self, real_seconds: float) -> None:
        """Nothing to excuse."""

    def check(self, recovery_timeout: float) -> None:
        """Nothing to check."""


class RealPace:
    """Real seconds, `unit` of them for one of the scenario's."""

    def __init__(self, unit: float) -> None:
        self.unit = unit
        self._due = time.monotonic()

    def advance(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Sleep on the loop until the schedule says so."""
        self._due += seconds * self.unit
        loop.run_until_complete(asyncio.sleep(max(0.0, self._due - time.monotonic())))

    def excuse(self, real_seconds: float) -> None:
        """Move the schedule."""
        self._due += real_seconds

    def check(self, recovery_timeout: float) -> None:
        """Compare with the schedule."""
        late = (time.monotonic() - self._due) / self.unit
        if late > recovery_timeout * _TOLERATED:
            raise Late(f"{late:.0f} s of the scenario behind its schedule, with seconds of {self.unit:.4f} s")


async def _awaited(clock: VirtualClock, seconds: float) -> None:
    await clock.advance(seconds)
