"""interlock-cb: synchronous and asyncio, failure rate over a window, probe rounds, injectable clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.lab import now
from pytest_prodpatterns.targets.breaker._protocol import BreakerTarget, Settings

if TYPE_CHECKING:
    from collections.abc import Callable


class _AmbientClock:
    """The lab's clock behind the library's `Clock` protocol."""

    def monotonic(self) -> float:
        return now()


class _WithDeadline:
    """A breaker with the library's `timeout` inside, composed as its documentation says."""

    def __init__(self, breaker: Any, seconds: float) -> None:
        self.breaker = breaker
        self.seconds = seconds

    async def call_async(self, func: Callable[..., Any], *args: Any) -> Any:
        import interlock  # noqa: PLC0415

        async def bounded() -> Any:
            async with interlock.timeout(self.seconds):
                return await func(*args)

        return await self.breaker.call_async(bounded)


class InterlockTarget(BreakerTarget):
    """Adapt `interlock.CircuitBreaker`.

    One rate judges the closed window and the round of probes alike: 1 / successes makes one failed probe
    of a round enough to open it again, and is 100 % where one success closes.
    """

    name = "interlock-cb"
    distribution = "interlock-cb"
    description = (
        "Config(window_size=N, minimum_number_of_calls=N, failure_rate_threshold=1/successes,"
        " permitted_calls_in_half_open=successes, max_concurrent_probes=1), clock=virtual"
    )
    time = "virtual"

    def make(self, settings: Settings) -> Any:
        """Make one that N failures open; calls are never slow."""
        import interlock  # noqa: PLC0415

        config = interlock.Config(
            failure_rate_threshold=1.0 / settings.success_threshold,
            minimum_number_of_calls=settings.failure_threshold,
            window_size=settings.failure_threshold,
            permitted_calls_in_half_open=settings.success_threshold,
            max_concurrent_probes=1,
            wait_duration_in_open=settings.recovery_timeout,
            slow_call_duration_threshold=1e9,
        )
        breaker = interlock.CircuitBreaker(name="charge", config=config, clock=_AmbientClock())
        return breaker if settings.call_timeout is None else _WithDeadline(breaker, settings.call_timeout)

    def call(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call by `breaker.call`."""
        return breaker.call(func, *args)

    async def call_async(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Await by `breaker.call_async`."""
        return await breaker.call_async(func, *args)
