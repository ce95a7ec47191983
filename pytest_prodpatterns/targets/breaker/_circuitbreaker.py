"""circuitbreaker: synchronous and asyncio, consecutive failures, monotonic clock, no limit at half-open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets.breaker._protocol import BreakerTarget, Settings

if TYPE_CHECKING:
    from collections.abc import Callable


class CircuitbreakerTarget(BreakerTarget):
    """Adapt `circuitbreaker.CircuitBreaker`.

    Its documented use is the decorator; `call` and `call_async` alone never look whether the circuit is open.
    """

    name = "circuitbreaker"
    distribution = "circuitbreaker"
    description = "CircuitBreaker(failure_threshold, recovery_timeout), used as a decorator"
    lacks = {"success-threshold": "circuitbreaker closes at the first success at half-open"}  # noqa: RUF012

    def make(self, settings: Settings) -> Any:
        """Make one; there is nothing to configure but the two numbers."""
        import circuitbreaker  # noqa: PLC0415

        return circuitbreaker.CircuitBreaker(
            failure_threshold=settings.failure_threshold,
            recovery_timeout=settings.recovery_timeout,
            name="charge",
        )

    def call(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call a function that was decorated this moment."""
        return breaker(func)(*args)

    async def call_async(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Await a function that was decorated this moment."""
        return await breaker(func)(*args)
