"""What scenarios do to a circuit breaker.

Times are seconds of the scenario: virtual for a breaker that follows the lab's clock, real but short for
others.  A *phase* names a group of calls; the promises speak of phases.  The style of a call is `auto` (tasks
where the breaker has an asyncio API, else threads), `tasks`, `threads`, or `concurrent` (threads where the
breaker knows them, else tasks).
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.scenarios.actions._bench import Bench, bench
from pytest_prodpatterns.targets.breaker._decorated import complaints
from pytest_prodpatterns.targets.breaker._protocol import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_prodpatterns.targets.breaker._driver import Driver
    from pytest_prodpatterns.targets.breaker._protocol import Kind


def make_breaker(
    failure_threshold: int,
    recovery_timeout: float = 60.0,
    success_threshold: int = 1,
    call_timeout: float | None = None,
) -> None:
    """Make a new breaker; calls go through it from now on.

    Args:
        failure_threshold: Failures in a row that open it.
        recovery_timeout: Seconds that it stays open.
        success_threshold: Successes at half-open that close it.
        call_timeout: Seconds of its own deadline for a call, where the library has such an option.
    """
    settings = Settings(
        failure_threshold=failure_threshold,
        recovery_timeout=float(recovery_timeout),
        success_threshold=success_threshold,
        call_timeout=None if call_timeout is None else float(call_timeout),
    )
    bench().perform(lambda driver: driver.make(settings))


def call(  # noqa: PLR0917 - a file names its arguments, never counts them
    phase: str,
    times: int = 1,
    outcome: str = "ok",
    style: str = "auto",
    at_once: bool = False,
    wall_clock_by: float = 0.0,
    time_zone: str | None = None,
    caller_timeout: float | None = None,
) -> None:
    """Make calls, and wait until each came back or hangs in the dependency as planned.

    Args:
        phase: What the history calls them.
        times: How many.
        outcome: What the dependency does: `ok`, `error`, `interrupt` (KeyboardInterrupt), `hang` (until
            `release`), `cancel` (the caller is cancelled while the dependency hangs).
        style: `auto`, `tasks`, `threads` or `concurrent`.
        at_once: Start all of them before waiting for any.
        wall_clock_by: Seconds by which the wall clock is wrong during the calls.
        time_zone: The time zone of the process during the calls, as in the variable TZ.
        caller_timeout: Seconds after which each caller gives up, by `asyncio.wait_for`.
    """
    here = bench()

    def step(driver: Driver) -> None:
        here.arm(outcome)
        with _wall_clock(here, wall_clock_by), _zone(time_zone):
            driver.call(times, outcome, phase, style, at_once=at_once, deadline=caller_timeout)
        driver.report()

    here.perform(step)


def release(phase: str, outcome: str = "ok") -> None:
    """Let the hanging calls of a phase go on, and wait until they came back.

    Args:
        phase: The phase.
        outcome: How the dependency ends: `ok` or `error`.
    """

    def step(driver: Driver) -> None:
        driver.release([call for call in driver.calls if call.phase == phase], outcome)
        driver.report()

    bench().perform(step)


def cancel(phase: str) -> None:
    """Cancel the callers of the hanging calls of a phase, as a client that hangs up does.

    Args:
        phase: The phase.
    """

    def step(driver: Driver) -> None:
        driver.cancel([call for call in driver.calls if call.phase == phase and not call.returned])
        driver.report()

    bench().perform(step)


def advance(seconds: float) -> None:
    """Let time pass.

    Args:
        seconds: How much.
    """
    bench().perform(lambda driver: driver.advance(float(seconds)))


def call_decorated(kind: Kind, phase: str, times: int = 1, outcome: str = "ok") -> None:
    """Call a dependency of a kind that the breaker decorates, and exhaust what it yields.

    Args:
        kind: `sync`, `async`, `generator` or `async generator`.
        phase: What the history calls them.
        times: How many.
        outcome: What the dependency does: `ok` or `error`; generators do so after the first item.
    """
    here = bench()

    def step(driver: Driver) -> None:
        if _can_use(driver, kind) and driver.guards(kind):
            here.arm(outcome)
            driver.call_decorated(kind, times, outcome, phase)

    here.perform(step)


def inspect_decorated() -> None:
    """Decorate a function of each kind that the library knows, and note what it lost by that."""

    def step(driver: Driver) -> None:
        for kind in ("sync", "async"):
            if _can_use(driver, kind):
                complaints(driver, kind)

    bench().perform(step)


def storm_of_failures(threads: int, times: int, phase: str = "storm") -> None:
    """Make failing calls from many threads at the same time.

    Args:
        threads: How many threads.
        times: How many calls each makes.
        phase: What the history calls them.
    """
    here = bench()

    def step(driver: Driver) -> None:
        here.fire("error", calls=threads * times)
        driver.storm(threads, times, phase)

    here.perform(step)


def _can_use(driver: Driver, kind: str) -> bool:
    """A library of one world only is not blamed for the other's functions, except `async def` in a sync one."""
    return kind.startswith("async") or driver.target.missing("sync") is None


@contextlib.contextmanager
def _wall_clock(here: Bench, seconds: float) -> Iterator[None]:
    """Let the wall clock be wrong; it is right again before the engine looks at it."""
    if not seconds:
        yield
        return
    import time_machine  # noqa: PLC0415

    here.fire("clock", seconds=seconds)
    with time_machine.travel(time.time() + seconds, tick=True):
        yield


@contextlib.contextmanager
def _zone(name: str | None) -> Iterator[None]:
    if name is None:
        yield
        return
    before: Any = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()
