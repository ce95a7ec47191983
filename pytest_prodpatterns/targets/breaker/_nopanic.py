"""nopanic: synchronous, asyncio, trio; failure rate over a time window; its clock can be injected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.lab import now
from pytest_prodpatterns.targets.breaker._protocol import BreakerTarget, Settings

if TYPE_CHECKING:
    from collections.abc import Callable


class NopanicTarget(BreakerTarget):
    """Adapt `nopanic.CircuitBreaker`, with `nopanic.timeout` inside where a scenario wants a deadline."""

    name = "nopanic"
    distribution = "nopanic"
    description = (
        "CircuitBreaker(failure_threshold=1.0, min_calls=N, window=3600, half_open_max_calls=successes,"
        " clock=virtual); compose(breaker, timeout) for a deadline"
    )
    time = "virtual"

    def make(self, settings: Settings) -> Any:
        """Make one that N failures, and nothing but failures, open."""
        import nopanic  # noqa: PLC0415

        breaker = nopanic.CircuitBreaker(
            failure_threshold=1.0,
            min_calls=settings.failure_threshold,
            window=3600.0,
            reset_timeout=settings.recovery_timeout,
            half_open_max_calls=settings.success_threshold,
            clock=now,
        )
        if settings.call_timeout is None:
            return breaker
        return nopanic.compose(breaker, nopanic.timeout(settings.call_timeout))

    def call(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call by `breaker.call`."""
        return breaker.call(func, *args)

    async def call_async(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Await by `breaker.acall`."""
        return await breaker.acall(func, *args)
