"""Our own breaker, on the lab's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets.breaker._protocol import BreakerTarget, Settings

if TYPE_CHECKING:
    from collections.abc import Callable


class OurTarget(BreakerTarget):
    """Adapt `pytest_prodpatterns.CircuitBreaker`."""

    name = "ours"
    distribution = "pytest-prodpatterns"
    description = (
        "CircuitBreaker(failure_threshold, recovery_timeout, success_threshold, max_probes=1, call_timeout)"
    )
    time = "virtual"

    def make(self, settings: Settings) -> Any:
        """Make one; the clock is the ambient one by default."""
        from pytest_prodpatterns.patterns.breaker import CircuitBreaker  # noqa: PLC0415

        return CircuitBreaker(
            settings.failure_threshold,
            settings.recovery_timeout,
            settings.success_threshold,
            name="charge",
            max_probes=1,
            call_timeout=settings.call_timeout,
        )

    def call(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call by `breaker.call`."""
        return breaker.call(func, *args)

    async def call_async(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Await by `breaker.call`."""
        return await breaker.call(func, *args)
