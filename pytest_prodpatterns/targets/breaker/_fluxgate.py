"""fluxgate: a synchronous class (for one thread) and an asyncio class, composable trippers, wall clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets.breaker._protocol import BreakerTarget, Kind, Settings

if TYPE_CHECKING:
    from collections.abc import Callable


class _Pair:
    """Both classes with one configuration; a scenario uses the one that its calls need."""

    def __init__(self, settings: Settings) -> None:
        import fluxgate  # noqa: PLC0415

        self.sync = fluxgate.CircuitBreaker(**_options(settings))
        self.asynchronous = fluxgate.AsyncCircuitBreaker(**_options(settings), max_half_open_calls=1)


def _options(settings: Settings) -> dict[str, Any]:
    from fluxgate import permits, retries, trippers, windows  # noqa: PLC0415

    return {
        "window": windows.CountWindow(settings.failure_threshold),
        "tripper": (trippers.Closed() & trippers.FailureStreak(settings.failure_threshold))
        | (trippers.HalfOpened() & trippers.FailureRate(0.5)),
        "retry": retries.Cooldown(settings.recovery_timeout),
        "permit": permits.All(),
    }


class FluxgateTarget(BreakerTarget):
    """Adapt `fluxgate.CircuitBreaker` and `fluxgate.AsyncCircuitBreaker`.

    The other permits of the library admit at random; `All` with `max_half_open_calls=1` is its firm limit.
    """

    name = "fluxgate"
    distribution = "fluxgate"
    description = (
        "tripper=Closed() & FailureStreak(N) | HalfOpened() & FailureRate(0.5), retry=Cooldown, permit=All(),"
        " max_half_open_calls=1 (asyncio)"
    )
    lacks = {  # noqa: RUF012
        "success-threshold": "fluxgate closes at the first success at half-open that its tripper lets pass",
        "threads": "fluxgate's synchronous class is documented as not thread-safe",
    }

    def make(self, settings: Settings) -> Any:
        """Make a breaker of each kind."""
        return _Pair(settings)

    def call(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call by the synchronous breaker."""
        return breaker.sync.call(func, *args)

    async def call_async(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Await by the asyncio breaker."""
        return await breaker.asynchronous.call(func, *args)

    def decorate(self, breaker: Any, func: Callable[..., Any], kind: Kind) -> Any:
        """Decorate with the breaker that fits the function."""
        return (breaker.asynchronous if kind.startswith("async") else breaker.sync)(func)

    def state(self, breaker: Any) -> str:
        """Return the state of both."""
        return f"{breaker.asynchronous.info().state} (sync: {breaker.sync.info().state})"
