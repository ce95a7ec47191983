"""purgatory: two factories, synchronous and asyncio, consecutive failures, wall clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets.breaker._protocol import BreakerTarget, Kind, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

CIRCUIT = "charge"


class _Pair:
    """Both factories with one configuration; a scenario uses the one that its calls need.

    The synchronous circuit is fetched once before any call: threads that are the first to ask for it, at the
    same moment, may get a circuit each, and then the outcome of a scenario would be a matter of luck.
    """

    def __init__(self, settings: Settings) -> None:
        import purgatory  # noqa: PLC0415

        threshold, ttl = settings.failure_threshold, settings.recovery_timeout
        self.sync = purgatory.SyncCircuitBreakerFactory(threshold, ttl)
        self.asynchronous = purgatory.AsyncCircuitBreakerFactory(threshold, ttl)
        self.sync.get_breaker(CIRCUIT)


class PurgatoryTarget(BreakerTarget):
    """Adapt `purgatory.SyncCircuitBreakerFactory` and `purgatory.AsyncCircuitBreakerFactory`."""

    name = "purgatory"
    distribution = "purgatory"
    description = "Sync/AsyncCircuitBreakerFactory(default_threshold, default_ttl), one circuit"
    lacks = {"success-threshold": "purgatory closes at the first success at half-open"}  # noqa: RUF012

    def make(self, settings: Settings) -> Any:
        """Make a factory of each kind."""
        return _Pair(settings)

    def call(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call in the circuit's `with` block."""
        with breaker.sync.get_breaker(CIRCUIT):
            return func(*args)

    async def call_async(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Await in the circuit's `async with` block."""
        async with await breaker.asynchronous.get_breaker(CIRCUIT):
            return await func(*args)

    def decorate(self, breaker: Any, func: Callable[..., Any], kind: Kind) -> Any:
        """Decorate with the factory that fits the function."""
        factory = breaker.asynchronous if kind.startswith("async") else breaker.sync
        return factory(CIRCUIT)(func)

    def state(self, breaker: Any) -> str:  # noqa: ARG002
        """Say nothing: a circuit has to be fetched, by the factory that was used."""
        return "?"
