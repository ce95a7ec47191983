"""pybreaker: synchronous (and Tornado), consecutive failures, wall clock, its lock held during the call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets.breaker._protocol import BreakerTarget, Settings

if TYPE_CHECKING:
    from collections.abc import Callable


class PybreakerTarget(BreakerTarget):
    """Adapt `pybreaker.CircuitBreaker`."""

    name = "pybreaker"
    distribution = "pybreaker"
    description = "CircuitBreaker(fail_max, reset_timeout, success_threshold, throw_new_error_on_trip=False)"
    lacks = {  # noqa: RUF012
        "async": "pybreaker has no asyncio API (its call_async is for Tornado)",
        "overlap": "pybreaker runs one call at a time, its lock is held during the call: no outcome is late",
    }

    def make(self, settings: Settings) -> Any:
        """Make one that hands the original exception through, an option of the library."""
        import pybreaker  # noqa: PLC0415

        return pybreaker.CircuitBreaker(
            fail_max=settings.failure_threshold,
            reset_timeout=settings.recovery_timeout,
            success_threshold=settings.success_threshold,
            throw_new_error_on_trip=False,
        )

    def call(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call by `breaker.call`."""
        return breaker.call(func, *args)

    async def call_async(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Refuse: see `lacks`."""
        raise NotImplementedError

    def state(self, breaker: Any) -> str:
        """Return `current_state`."""
        return str(breaker.current_state)
