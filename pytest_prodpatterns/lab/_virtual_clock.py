"""`VirtualClock`: a clock that moves when it is told to, or when an event loop has nothing else to do."""

# ruff: noqa: SLF001 - asyncio has no public names for these; a test pins them for each version

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING

from pytest_prodpatterns.lab import _ambient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

_SETTLED = 3
"""Turns of the loop without anything to run, after which the work of an instant counts as done."""

_SETTLE_LIMIT = 10_000


class UnsupportedLoop(RuntimeError):  # noqa: N818
    """The loop keeps its time where nobody can reach it (uvloop, Proactor), or is virtual already."""

    __module__ = "pytest_prodpatterns.lab"


class Deadlock(RuntimeError):  # noqa: N818
    """Nothing can ever wake the waiting tasks: no timer is scheduled and nothing outside the loop is pending.

    It is no `TimeoutError` on purpose: code under test handles time-outs, and would take a deadlock for one.
    """

    __module__ = "pytest_prodpatterns.lab"


class OutsidePending(RuntimeError):  # noqa: N818
    """In strict mode: a jump was due while a thread, a child or another process had not answered yet."""

    __module__ = "pytest_prodpatterns.lab"


class VirtualClock:
    """A clock in virtual seconds; calling it reads it, so it fits wherever `time.monotonic` does.

    Args:
        start: What it shows at first, in seconds.
        grace: Real seconds of quiet that threads, children and other processes get before a jump.
        strict: Whether to raise `OutsidePending` where a jump would follow that grace.

    Attributes:
        jumps: How often an idle loop moved it.
        grace: As given.
        strict: As given.

    Raises:
        ValueError: `start` is not finite, or `grace` is negative or nan.
    """

    __slots__ = (
        "__weakref__",
        "_fine_until",
        "_loop",
        "_now",
        "_on_move",
        "_start",
        "grace",
        "jumps",
        "strict",
    )

    def __init__(self, start: float = 0.0, *, grace: float = 1.0, strict: bool = False) -> None:
        if not math.isfinite(start):
            raise ValueError(f"start must be a finite number of seconds, got {start!r}")
        if not grace >= 0:
            raise ValueError(f"grace must be 0 or more real seconds, got {grace!r}")
        self._start = self._now = float(start)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_move: Callable[[float], object] | None = None
        self._fine_until = math.inf
        self.grace = grace
        self.strict = strict
        self.jumps = 0

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def __call__(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the start."""
        return self._now - self._start

    def advance(self, seconds: float) -> Awaitable[None]:
        """Let virtual time pass.

        In a coroutine on this clock's loop, `await` it: like `asyncio.sleep(seconds)`, every timer that falls
        due on the way runs first, in order and at its own moment; then what they woke runs until it waits
        again. Anywhere else the clock moves at once, and the returned awaitable is already finished; timers
        of a loop run when that loop next does.

        Args:
            seconds: How far, in virtual seconds; 0 only lets what is ready run.

        Raises:
            ValueError: `seconds` is negative or not finite.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"virtual time cannot advance by {seconds!r}: expected 0 or more seconds")
        loop = self._loop
        if loop is not None and asyncio._get_running_loop() is loop:
            return self._run_until(loop, self._now + seconds)
        self._move(self._now + seconds)
        self._tell(seconds)
        if loop is not None and loop.is_running():
            loop.call_soon_threadsafe(_nothing)
        return _FINISHED

    async def _run_until(self, loop: asyncio.AbstractEventLoop, target: float) -> None:
        seconds = target - self._now
        reached = loop.create_future()
        timer = loop.call_at(target, _release, reached)
        try:
            await reached
        finally:
            timer.cancel()
        await _settle(loop)
        self._tell(seconds)

    def _tell(self, seconds: float) -> None:
        _ambient.emit("clock", "advanced", seconds=seconds)

    def _move(self, moment: float) -> None:
        """Show `moment` from now on. Never goes back."""
        if moment <= self._now:
            return
        self._now = moment
        if moment > self._fine_until:
            self._coarsen()
        if self._on_move is not None:
            self._on_move(moment)

    def _coarsen(self) -> None:
        """Keep the loop's resolution above the gap between two floats, or a due timer would never fire."""
        if self._loop is not None:
            gap = 4 * math.ulp(self._now)
            self._loop._clock_resolution = max(gap, self._loop._clock_resolution)  # type: ignore[attr-defined]
            self._fine_until = 2 * abs(self._now)

    def __repr__(self) -> str:
        return f"<VirtualClock at {self._now!r} s, {self.jumps} jumps>"


class _Finished:
    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_FINISHED = _Finished()


def _nothing() -> None:
    """Wake the loop up."""


def _release(future: asyncio.Future[None]) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):
        future.set_result(None)


async def _settle(loop: asyncio.AbstractEventLoop) -> None:
    """Return once the loop had nothing to run for some turns; a task that never rests is not waited for."""
    idle = 0
    for _ in range(_SETTLE_LIMIT):
        idle = 0 if loop._ready else idle + 1  # type: ignore[attr-defined]
        if idle == _SETTLED:
            return
        await asyncio.sleep(0)
