"""pyresilience: one decorator over synchronous and asyncio functions, consecutive failures, monotonic clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets.breaker._protocol import BreakerTarget, Kind, Settings

if TYPE_CHECKING:
    from collections.abc import Callable


class _Guards:
    """One decorator, and one function of each kind behind it: a breaker of the library belongs to a function."""

    def __init__(self, decorator: Callable[[Any], Any]) -> None:
        @decorator
        def call(func: Callable[..., Any], *args: Any) -> Any:
            return func(*args)

        @decorator
        async def call_async(func: Callable[..., Any], *args: Any) -> Any:
            return await func(*args)

        self.decorator = decorator
        self.call = call
        self.call_async = call_async


class PyresilienceTarget(BreakerTarget):
    """Adapt `pyresilience.resilient(circuit_breaker=…, timeout=…)`."""

    name = "pyresilience"
    distribution = "pyresilience"
    description = (
        "@resilient(circuit_breaker=CircuitBreakerConfig(failure_threshold, recovery_timeout, success_threshold));"
        " timeout=TimeoutConfig for a deadline"
    )

    def make(self, settings: Settings) -> Any:
        """Make the decorator, with nothing of the library but the breaker switched on."""
        import pyresilience  # noqa: PLC0415

        deadline = None
        if settings.call_timeout is not None:
            deadline = pyresilience.TimeoutConfig(seconds=settings.call_timeout)
        config = pyresilience.CircuitBreakerConfig(
            failure_threshold=settings.failure_threshold,
            recovery_timeout=settings.recovery_timeout,
            success_threshold=settings.success_threshold,
        )
        return _Guards(pyresilience.resilient(circuit_breaker=config, timeout=deadline))

    def call(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call the decorated synchronous function."""
        return breaker.call(func, *args)

    async def call_async(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Await the decorated asynchronous function."""
        return await breaker.call_async(func, *args)

    def decorate(self, breaker: Any, func: Callable[..., Any], kind: Kind) -> Any:  # noqa: ARG002
        """Decorate; each decorated function gets a breaker of its own."""
        return breaker.decorator(func)
