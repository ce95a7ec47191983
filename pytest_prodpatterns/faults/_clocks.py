"""Wall clocks that jump, stand still, or run too fast, as after an NTP step or on a bad virtual machine.

Only the wall clock moves: `time.time`, `datetime.now`, `time.localtime` and their kin, of this process, in every
thread. `time.monotonic`, `time.perf_counter`, the event loop and the lab's clock do not: a component that
measures time-outs on the monotonic clock must not notice. The replacing itself is time-machine's work.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pytest_prodpatterns.lab import InjectedFault, Undo, current_lab, inject

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too

_NANO = 1_000_000_000


@contextmanager
def wall_clock_jump(seconds: float) -> Iterator[InjectedFault]:
    """Set the wall clock forward, or back, inside the block; it goes on ticking from there.

    Args:
        seconds: How far; negative is back.

    Raises:
        ValueError: When `seconds` is 0 or not finite.
        TypeError: When it is no number.
        RuntimeError: When the wall clock is replaced already, by us or by time-machine.
    """
    shift = round(_number("wall_clock_jump", "seconds", seconds) * _NANO)
    with _wall_clock(f"wall_clock_jump({seconds!r})", lambda real, _start: real + shift) as fault:
        yield fault


@contextmanager
def freeze() -> Iterator[InjectedFault]:
    """Stop the wall clock inside the block.

    Raises:
        RuntimeError: When the wall clock is replaced already, by us or by time-machine.
    """
    with _wall_clock("freeze()", lambda _real, start: start) as fault:
        yield fault


@contextmanager
def skew(rate: float) -> Iterator[InjectedFault]:
    """Let the wall clock run at another speed inside the block.

    Args:
        rate: Wall seconds in a real second, above 0: 2 is twice as fast, 0.5 half as fast.

    Raises:
        ValueError: When `rate` is not above 0, is 1, or is not finite.
        TypeError: When it is no number.
        RuntimeError: When the wall clock is replaced already, by us or by time-machine.
    """
    factor = _number("skew", "rate", rate)
    if factor < 0 or factor == 1:
        raise ValueError(f"skew(): rate must be above 0 and other than 1, not {rate!r}")
    reading = lambda real, start: start + round((real - start) * factor)  # noqa: E731
    with _wall_clock(f"skew({rate!r})", reading) as fault:
        yield fault


@contextmanager
def _wall_clock(description: str, reading: Callable[[int, int], int]) -> Iterator[InjectedFault]:
    """Let the wall clock show `reading(real, start)` nanoseconds inside the block."""
    import time_machine  # noqa: PLC0415 - a C extension that few tests want

    if time_machine.escape_hatch.is_travelling():
        raise RuntimeError(
            f"{description}: the wall clock is replaced already, by another clock fault, by virtual time with"
            " wall_clock=True or by time-machine; leave that first"
        )
    start = time.time_ns()
    real_time_ns = time_machine.escape_hatch.time.time_ns  # answers only during a journey
    journey = time_machine.travel(start / _NANO, tick=False)
    lab = current_lab()
    fault = inject("wall-clock", description)
    traveller: Any = journey.start()
    title = f"wall-clock: {description}"
    undo = lab.on_undo(title, journey.stop) if lab else Undo(title, journey.stop)
    try:
        traveller.time_ns = lambda: reading(real_time_ns(), start)
        fault.fire(shift=round(time.time() - real_time_ns() / _NANO, 3))
        yield fault
    finally:
        undo.run()


def _number(verb: str, argument: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{verb}(): {argument} must be a number, not {value!r}")
    if not math.isfinite(value) or value == 0:
        raise ValueError(f"{verb}(): {argument} must be a finite number other than 0, not {value!r}")
    return float(value)
