"""aiobreaker: synchronous and asyncio, consecutive failures, wall clock; pybreaker's younger brother."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets.breaker._protocol import BreakerTarget, Settings

if TYPE_CHECKING:
    from collections.abc import Callable


class AiobreakerTarget(BreakerTarget):
    """Adapt `aiobreaker.CircuitBreaker`."""

    name = "aiobreaker"
    distribution = "aiobreaker"
    description = "CircuitBreaker(fail_max, timeout_duration)"
    lacks = {"success-threshold": "aiobreaker closes at the first success at half-open"}  # noqa: RUF012

    def make(self, settings: Settings) -> Any:
        """Make one; there is nothing to configure but the two numbers."""
        import aiobreaker  # noqa: PLC0415

        return aiobreaker.CircuitBreaker(
            fail_max=settings.failure_threshold, timeout_duration=timedelta(seconds=settings.recovery_timeout)
        )

    def call(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call by `breaker.call`."""
        return breaker.call(func, *args)

    async def call_async(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Await by `breaker.call_async`."""
        return await breaker.call_async(func, *args)

    def state(self, breaker: Any) -> str:
        """Return the name of `current_state`."""
        return str(breaker.current_state.name).lower()

    def retry_after(self, error: BaseException) -> float | None:
        """Return the error's `time_remaining`; it raises where the error does not know."""
        try:
            remaining = error.time_remaining  # type: ignore[attr-defined]
        except (AttributeError, TypeError):
            return None
        return float(remaining.total_seconds())
