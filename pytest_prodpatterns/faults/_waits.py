"""The faults that take time: `delays` and `hangs`."""

from __future__ import annotations

import asyncio
import math
import threading
from dataclasses import dataclass
from typing import Any, Final

from pytest_prodpatterns.faults._plan_terms import number_text
from pytest_prodpatterns.faults._scene import Answer, Fault, Scene
from pytest_prodpatterns.lab import ambient_clock

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

HANG_LIMIT: Final = 30.0
"""Real seconds after which a thread that hangs gets away."""


@dataclass(frozen=True, slots=True, repr=False)
class _Delays(Fault):
    seconds: float

    def strike(self, scene: Scene) -> Answer | None:
        clock = ambient_clock()
        owner = getattr(clock, "__self__", clock)  # the clock may stand there as its bound method `time`
        if not _moves(owner, self.seconds):
            scene.release.wait(self.seconds)
        return None

    async def strike_async(self, scene: Scene) -> Answer | None:  # noqa: ARG002
        await asyncio.sleep(self.seconds)
        return None

    def __str__(self) -> str:
        return f"delays({number_text(self.seconds)})"


@dataclass(frozen=True, slots=True, repr=False)
class _Hangs(Fault):
    limit: float

    def strike(self, scene: Scene) -> Answer | None:
        if not scene.release.wait(self.limit):
            raise TimeoutError(
                f"call {scene.call} of {scene.name!r} hung for {number_text(self.limit)} s, the limit of {self}:"
                " nobody undid the fault meanwhile"
            )
        return None

    async def strike_async(self, scene: Scene) -> Answer | None:
        await scene.release.wait_async()
        return None

    def __str__(self) -> str:
        return "hangs()" if self.limit == HANG_LIMIT else f"hangs(limit={number_text(self.limit)})"


def delays(seconds: float) -> Fault:
    """Make the call late, then let it go on (Polly Simmy's latency).

    An awaited call sleeps with `asyncio.sleep`, which costs nothing in virtual time. A synchronous call moves
    the virtual clock where the ambient clock is one; otherwise it really waits, until the fault is undone at most.

    Args:
        seconds: How late, from 0.

    Raises:
        ValueError: When `seconds` is negative or not finite.
        TypeError: When it is no number.
    """
    return _Delays(_seconds("delays", "seconds", seconds, least=0))


def hangs(*, limit: float = HANG_LIMIT) -> Fault:
    """Give no answer until the fault is undone; then the call goes on, as after a network partition.

    An awaited call waits until it is cancelled or the fault is undone. A synchronous call blocks its thread.

    Args:
        limit: Longest time in real seconds that a thread is blocked; then it gets a `TimeoutError`.

    Raises:
        ValueError: When `limit` is not above 0, or not finite.
        TypeError: When it is no number.
    """
    value = _seconds("hangs", "limit", limit, least=0)
    if not value:
        raise ValueError("hangs(): limit must be seconds above 0, not 0")
    return _Hangs(value)


def _seconds(verb: str, argument: str, value: Any, *, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{verb}(): {argument} must be a number of seconds, not {value!r}")
    if not (least <= value < math.inf):
        raise ValueError(f"{verb}(): {argument} must be seconds from {least}, not {value!r}")
    return float(value)


def _moves(clock: Any, seconds: float) -> bool:
    """Move a virtual clock; tell whether it was one."""
    advance = getattr(clock, "advance", None)
    if advance is None:
        return False
    if not _on_loop():
        advance(seconds)
        return True
    # On a running loop `advance` hands back a coroutine that we cannot await here. This call blocks the loop, so
    # time must pass while the loop stands still: as seen from a thread without a loop.
    mover = threading.Thread(target=advance, args=(seconds,), name="prodpatterns-delay")
    mover.start()
    mover.join()
    return True


def _on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
